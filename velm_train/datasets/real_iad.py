"""Reads Real-IAD: `<category>/{OK, NG/<code>}/S<number>/*` with masks beside the views in, `FoundImage`s out.

Source of layout and codes: Wang et al., "Real-IAD", CVPR 2024, arXiv 2403.12580, and the set's project page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from velm_train.core.errors import DataError
from velm_train.core.records import Split
from velm_train.datasets.category_folders import ChosenFolders, choose_category_folders
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.reading import list_folders, list_images, require_root
from velm_train.datasets.real_iad_splits import OK, SplitRow, find_split_table, read_split_table
from velm_train.datasets.stems import by_stem

REAL_IAD_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "AK": "pit",
        "BX": "deformation",
        "CH": "abrasion",
        "HS": "scratch",
        "PS": "damage",
        "QS": "missing_parts",
        "YW": "foreign_objects",
        "ZW": "contamination",
    }
)
"""Folder below `NG` -> defect type."""

_NG = "NG"
_MASK_ENDING = "_mask"
_JPEG = frozenset({".jpg", ".jpeg"})
_TEST_EVERY = 5
"""Without a published split, every fifth normal part is for testing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """One picture of one part; `code` is the folder below NG, or OK where the view shows no defect."""

    path: Path
    part: str
    code: str
    gt_mask_paths: tuple[Path, ...]


def find_real_iad(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds every view of the chosen categories; the views of one part are one group.

    The split is the published one where `realiad_jsons/realiad_jsons/<category>.json` or
    `realiad_jsons/<category>.json` lies in the root or beside the folder of the categories; views that it does not
    list are left out. A part with views in both lists is read as test, for its views show the same object.

    Without such a file, defective parts and every fifth normal part, in the order of their numbers, are "test" and the
    rest is "train". A view without a mask shows no defect and is normal, though its part has one.

    Args:
        root: folder that holds the categories (`realiad_1024`), or its parent if that holds one resolution.
        categories: categories to read; empty for all.

    Raises:
        DataError: if the root, a category, a mask or a split file is not as it has to be.
    """
    place = _images_root(root)
    chosen = _choose(place, categories)
    images: list[FoundImage] = []
    notes = list(chosen.notes)
    for outer in chosen.folders:
        folder = _views_folder(outer)
        assert folder is not None, outer
        views = _views(folder)
        table = find_split_table((root, place.parent), outer.name)
        found = _by_folders(folder, views) if table is None else _by_table(folder, views, table)
        images += found.images
        notes += [f"{outer.name}: {note}" for note in found.notes]
    unnamed = sorted({one for image in images for one in image.defect_types} - set(REAL_IAD_TYPES.values()))
    if unnamed:
        notes.append(f"folders below NG without a known name are types as they are: {', '.join(unnamed)}")
    return Found(images=tuple(images), notes=tuple(notes))


def _views_folder(folder: Path) -> Path | None:
    """Returns the folder that holds OK and NG: this one, or one of the same name in it, as archives unpack."""
    for place in (folder, folder / folder.name):
        if (place / OK).is_dir() or (place / _NG).is_dir():
            return place
    return None


def _images_root(root: Path) -> Path:
    require_root(root)
    folders = list_folders(root)
    if any(_views_folder(folder) for folder in (root, *folders)):
        return root
    deeper = [folder for folder in folders if any(_views_folder(entry) for entry in list_folders(folder))]
    if len(deeper) > 1:
        names = ", ".join(folder.name for folder in deeper)
        raise DataError(
            f"data root {root} holds several copies of the images, {names}; set dataset.root to one of them"
        )
    return deeper[0] if deeper else root


def _choose(place: Path, categories: Sequence[str]) -> ChosenFolders:
    return choose_category_folders(
        place, categories, is_category=lambda folder: _views_folder(folder) is not None, expected="OK or NG"
    )


def _views(folder: Path) -> list[_View]:
    """Returns every view below a category, sorted by part."""
    places = [(OK, folder / OK), *((entry.name, entry) for entry in list_folders(folder / _NG))]
    views: list[_View] = []
    for code, place in places:
        loose = list_images(place)
        if loose:
            raise DataError(f"image {loose[0]} (one of {len(loose)}) lies outside the folder of a part, such as S0001")
        for part in list_folders(place):
            views += _views_of_part(part, name=part.relative_to(folder).as_posix(), code=code)
    if not views:
        raise DataError(f"category {folder.name!r}: no images in {folder}")
    return views


def _views_of_part(part: Path, *, name: str, code: str) -> list[_View]:
    files = list_images(part)
    has_jpeg = any(path.suffix.lower() in _JPEG for path in files)
    is_mask = {
        path: path.stem.endswith(_MASK_ENDING) or (has_jpeg and path.suffix.lower() not in _JPEG) for path in files
    }
    masks = by_stem([path for path in files if is_mask[path]], ending=_MASK_ENDING)
    images = [path for path in files if not is_mask[path]]
    for stem in sorted(set(masks) - set(by_stem(images, ending=""))):
        raise DataError(f"mask {masks[stem]} has no image named {stem} beside it")
    if code == OK and masks:
        raise DataError(f"mask {masks[min(masks)]} belongs to a part in {OK}; move the part to {_NG}/<code>")
    return [
        _View(
            path=path,
            part=name,
            code=code if path.stem in masks else OK,
            gt_mask_paths=(masks[path.stem],) if path.stem in masks else (),
        )
        for path in images
    ]


def _by_folders(folder: Path, views: Sequence[_View]) -> Found:
    unmarked = {view.part for view in views} - {view.part for view in views if view.gt_mask_paths}
    for part in sorted(part for part in unmarked if part.startswith(f"{_NG}/")):
        raise DataError(
            f"part {folder / part} has no mask beside any view, so nobody knows which views show its defect; fetch the "
            "masks or the split files"
        )
    normal_parts = sorted({view.part for view in views if view.part.startswith(f"{OK}/")})
    train = {part for place, part in enumerate(normal_parts) if (place + 1) % _TEST_EVERY}
    images = [
        _found(
            folder,
            view.path,
            code=view.code,
            split="train" if view.part in train else "test",
            gt_mask_paths=view.gt_mask_paths,
            where="",
        )
        for view in views
    ]
    clean = sum(view.code == OK and view.part.startswith(f"{_NG}/") for view in views)
    notes = ["no published split; every fifth normal part and all defective parts are test"]
    if clean:
        notes.append(f"{clean} views of defective parts have no mask and are read as normal")
    return Found(images=tuple(images), notes=tuple(notes))


def _by_table(folder: Path, views: Sequence[_View], table: Path) -> Found:
    rows = read_split_table(table, category=table.stem)
    splits: dict[str, set[Split]] = {}
    for row in rows:
        splits.setdefault(row.part, set()).add(row.split)
    divided = {part for part, found in splits.items() if len(found) > 1}
    listed = {row.image for row in rows}
    left_out = sum(view.path.relative_to(folder).as_posix() not in listed for view in views)
    notes: list[str] = []
    if left_out:
        notes.append(f"{left_out} views that {table.parent.name}/{table.name} does not list are left out")
    if divided:
        notes.append(f"{len(divided)} parts have views in both lists and are read as test")
    images = [_from_row(folder, row, split="test" if row.part in divided else row.split) for row in rows]
    return Found(images=tuple(images), notes=tuple(notes))


def _from_row(folder: Path, row: SplitRow, *, split: Split) -> FoundImage:
    masks = (folder / row.gt_mask,) if row.gt_mask else ()
    return _found(folder, folder / row.image, code=row.code, split=split, gt_mask_paths=masks, where=row.where)


def _found(
    folder: Path, path: Path, *, code: str, split: Split, gt_mask_paths: tuple[Path, ...], where: str
) -> FoundImage:
    defect_types: tuple[str, ...] = ()
    if code != OK:
        defect_types = (REAL_IAD_TYPES[code] if code in REAL_IAD_TYPES else code,)
    relative_path = path.relative_to(folder)
    return FoundImage(
        path=path,
        category=folder.name,
        relative_path=relative_path.as_posix(),
        split=split,
        defect_types=defect_types,
        gt_mask_paths=gt_mask_paths,
        group_id=f"{folder.name}/{relative_path.parent.as_posix()}",
        where=where,
    )
