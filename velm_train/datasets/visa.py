"""Reads VisA as downloaded: `<category>/Data` with its tables of labels and splits in, `FoundImage`s out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.images import read_mask_values
from velm_train.core.records import Split
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.known_sets import known_categories, notes_on_masks
from velm_train.datasets.mvtec_style import pair_masks, with_groups
from velm_train.datasets.reading import list_images, nearest, printable, read_csv
from velm_train.datasets.visa_labels import canonical_label
from velm_train.datasets.visa_layout import (
    ANOMALY_FOLDER,
    MASK_FOLDER,
    NORMAL_FOLDER,
    VISA_TYPES,
    number_images,
    read_visa_ac_classes,
    refuse_conversion,
)

LABELS_FILE = "image_anno.csv"
SPLIT_FILE = Path("split_csv", "1cls.csv")

_NORMAL_LABEL = "normal"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Label:
    """One row of a category's table of labels."""

    where: str
    types: tuple[str, ...]
    mask: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """The split of a normal image and the row that gives it."""

    where: str
    split: Split


def find_visa(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds the images of VisA; an image of several types keeps them all.

    Types come from `<category>/image_anno.csv`, or where that is absent from the class numbers in the masks. Normals
    are split as `split_csv/1cls.csv` has them, or where that is absent by the list of the same test normals that comes
    with the package. Defects are "test".

    Args:
        root: folder that holds `candle`, `capsules` and so on, and `split_csv`.
        categories: categories to read; empty for all that are there.

    Raises:
        DataError: if the root is not VisA as downloaded, or naming the row, image or mask that is wrong.
    """
    chosen, notes = known_categories(
        root, categories, dataset="VisA", known=VISA_TYPES, inside=("Data", "train", "test")
    )
    refuse_conversion(root, chosen)
    for category in chosen:
        if not (root / category / "Data").is_dir():
            raise DataError(
                f"category {category!r} has no folder {root / category / 'Data'}; VisA as downloaded has; use "
                "dataset=visa_ac if this is VisA-AC"
            )
    places = _read_places(root)
    found: list[FoundImage] = []
    for category in chosen:
        labels = _read_labels(root, category)
        found += _normals(root, category, labels, places) + _anomalies(root, category, labels)
    notes += (*_notes_on_tables(root, chosen, found, places), *notes_on_masks(found))
    return Found(images=tuple(with_groups(root, found)), notes=notes)


def _notes_on_tables(
    root: Path, chosen: Sequence[str], found: Sequence[FoundImage], places: dict[str, _Place] | None
) -> list[str]:
    notes: list[str] = []
    bare = [category for category in chosen if not (root / category / LABELS_FILE).is_file()]
    if bare:
        notes.append(f"types are read from mask values where {LABELS_FILE} is absent: {', '.join(bare)}")
    if places is None:
        notes.append(f"{SPLIT_FILE.as_posix()} is absent; the test normals are taken from the package's list of them")
    else:
        names = {image.path.relative_to(root).as_posix() for image in found if not image.defect_types}
        extra = sorted(names - set(places))
        if extra:
            count = f"{len(extra)}, first {printable(Path(extra[0]))}"
            notes.append(f"normal images that {SPLIT_FILE.as_posix()} does not list count as train: {count}")
    return notes


def _read_places(root: Path) -> dict[str, _Place] | None:
    """Returns normal image (path below the root) -> its split, or None without a table."""
    if not (root / SPLIT_FILE).is_file():
        return None
    places: dict[str, _Place] = {}
    for where, row in read_csv(root / SPLIT_FILE, columns=("object", "split", "label", "image", "mask")):
        if row["split"] not in {"train", "test"}:
            raise DataError(f"{where}: split is {row['split']!r}; allowed: train, test")
        if row["label"] != _NORMAL_LABEL:
            continue
        if row["image"] in places:
            raise DataError(f"{where}: image {row['image']!r} is listed twice")
        places[row["image"]] = _Place(where=where, split="train" if row["split"] == "train" else "test")
    return places


def _read_labels(root: Path, category: str) -> dict[str, _Label] | None:
    """Returns image (path below the root) -> its label, or None without a table."""
    path = root / category / LABELS_FILE
    if not path.is_file():
        return None
    labels: dict[str, _Label] = {}
    for where, row in read_csv(path, columns=("image", "label", "mask")):
        image = row["image"]
        if image in labels:
            raise DataError(f"{where}: image {image!r} is listed twice")
        folder = Path(image).parent
        if folder not in {category / NORMAL_FOLDER, category / ANOMALY_FOLDER}:
            raise DataError(
                f"{where}: image {image!r} does not lie in {(category / NORMAL_FOLDER).as_posix()} or "
                f"{(category / ANOMALY_FOLDER).as_posix()}"
            )
        types = _types_of_cell(row["label"], category=category, where=where)
        if bool(types) != (folder == category / ANOMALY_FOLDER):
            raise DataError(f"{where}: image {image!r} has the label {row['label']!r}, which contradicts its folder")
        labels[image] = _Label(where=where, types=types, mask=row["mask"])
    return labels


def _types_of_cell(cell: str, *, category: str, where: str) -> tuple[str, ...]:
    if cell.lower() == _NORMAL_LABEL:
        return ()
    known = VISA_TYPES[category]
    types: set[str] = set()
    for raw in cell.split(","):
        try:
            name = canonical_label(raw)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        if name not in known:
            raise DataError(
                f"{where}: {category} has no type {name!r}{nearest(name, known)}; known: {', '.join(sorted(known))}"
            )
        types.add(name)
    return tuple(sorted(types))


def _normals(
    root: Path, category: str, labels: dict[str, _Label] | None, places: dict[str, _Place] | None
) -> list[FoundImage]:
    """Returns the normal images on disk and in the tables; one that a table alone names is missed when it is opened."""
    on_disk = list_images(root / category / NORMAL_FOLDER)
    if not on_disk:
        raise DataError(f"category {category!r}: no normal images in {root / category / NORMAL_FOLDER}")
    folder = (category / NORMAL_FOLDER).as_posix()
    rows = {name: label.where for name, label in (labels or {}).items() if not label.types}
    if places is None:
        test = read_visa_ac_classes()[category].test_normals
        numbers = number_images(root / category / NORMAL_FOLDER)
        splits: dict[str, Split] = {numbers[n].relative_to(root).as_posix(): "test" for n in test if n in numbers}
    else:
        mine = {name: place for name, place in places.items() if name.startswith(f"{folder}/")}
        rows |= {name: place.where for name, place in mine.items()}
        splits = {name: place.split for name, place in mine.items()}
    names = {path.relative_to(root).as_posix() for path in on_disk}
    return [
        _image(
            root / name,
            category_folder=root / category,
            split=splits[name] if name in splits else "train",
            where="" if name in names else rows[name],
        )
        for name in sorted(names | set(rows))
    ]


def _anomalies(root: Path, category: str, labels: dict[str, _Label] | None) -> list[FoundImage]:
    on_disk = list_images(root / category / ANOMALY_FOLDER)
    listed = {root / name: label for name, label in (labels or {}).items() if label.types}
    paths = sorted({*on_disk, *listed})
    masks = pair_masks(paths, root / category / MASK_FOLDER)
    found: list[FoundImage] = []
    for path in paths:
        mask_paths = masks.get(path, ())
        if labels is None:
            types, where = _types_of_masks(path, mask_paths, category=category), ""
        elif path in listed:
            types, where = listed[path].types, listed[path].where
            mask_paths = mask_paths or ((root / listed[path].mask,) if listed[path].mask else ())
        else:
            raise DataError(f"image {printable(path)} has no row in {root / category / LABELS_FILE}; add one")
        found.append(
            _image(path, category_folder=root / category, split="test", types=types, masks=mask_paths, where=where)
        )
    return found


def _types_of_masks(path: Path, masks: tuple[Path, ...], *, category: str) -> tuple[str, ...]:
    """Returns the types whose class numbers occur in an image's masks."""
    known = VISA_TYPES[category]
    numbers = {value for mask in masks for value in read_mask_values(mask)} - {0}
    if not numbers:
        raise DataError(
            f"image {printable(path)} has no type: {LABELS_FILE} is absent and it has no mask, or an empty one"
        )
    if max(numbers) > len(known):
        raise DataError(
            f"mask {masks[0]} holds the class number {max(numbers)}; {category} has 1 to {len(known)}; if the masks "
            f"are of 0 and 255, {LABELS_FILE} is needed"
        )
    return tuple(sorted(known[number - 1] for number in numbers))


def _image(
    path: Path,
    *,
    category_folder: Path,
    split: Split,
    where: str,
    types: tuple[str, ...] = (),
    masks: tuple[Path, ...] = (),
) -> FoundImage:
    return FoundImage(
        path=path,
        category=category_folder.name,
        relative_path=path.relative_to(category_folder).as_posix(),
        split=split,
        defect_types=types,
        gt_mask_paths=masks,
        group_id=None,
        where=where,
    )
