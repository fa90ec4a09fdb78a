"""Reads DAGM 2007: `Class<N>/{Train,Test}/NNNN.PNG` with `Label/NNNN_label.PNG` for defects in, `FoundImage`s out.

Source of the layout: Wieler and Hahn, "Weakly supervised learning for industrial optical inspection", DAGM 2007.
"""

from collections.abc import Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import Split
from velm_train.datasets.category_folders import choose_category_folders
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.reading import list_folders, list_images
from velm_train.datasets.stems import by_stem

DEFECT = "defect"
"""The type of every defect: each class has one artificial kind, which the set does not name."""

LABELS_NAME = "Labels.txt"
"""Table in a label folder: number, 1 for a defect, image file, 1 for a mask, mask file or 0; tabs between."""

_SPLITS: tuple[Split, Split] = ("train", "test")
_MASK_ENDING = "_label"


def find_dagm(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds every image of the chosen classes; an image with a label mask is a defect, one without is normal.

    The folder `Train` holds defects too: they are defects of split "train", and a protocol chooses its shots from
    both folders. The masks are coarse ellipses around the defects.

    Args:
        root: folder that holds `Class1` to `Class10`.
        categories: classes to read; empty for all.

    Raises:
        DataError: if the root or a class is not as it has to be, a mask has no image, or `Labels.txt` calls an image
            defective that has no mask.
    """
    chosen = choose_category_folders(
        root, categories, is_category=lambda folder: bool(_split_folders(folder)), expected="Train or Test"
    )
    images: list[FoundImage] = []
    for folder in chosen.folders:
        found = [image for split, place in _split_folders(folder).items() for image in _images_of(folder, split, place)]
        if not found:
            raise DataError(f"category {folder.name!r}: no images in {folder / 'Train'} or {folder / 'Test'}")
        images += found
    return Found(images=tuple(images), notes=chosen.notes)


def _split_folders(folder: Path) -> dict[Split, Path]:
    by_name = {entry.name.lower(): entry for entry in list_folders(folder)}
    return {split: by_name[split] for split in _SPLITS if split in by_name}


def _images_of(category: Path, split: Split, folder: Path) -> list[FoundImage]:
    images = list_images(folder)
    labels = [entry for entry in list_folders(folder) if entry.name.lower() == "label"]
    masks = by_stem([path for label in labels for path in list_images(label)], ending=_MASK_ENDING)
    for stem in sorted(set(masks) - set(by_stem(images, ending=""))):
        raise DataError(f"mask {masks[stem]} has no image named {stem} in {folder}")
    for label in labels:
        _require_masks(label / LABELS_NAME, masks)
    return [
        FoundImage(
            path=path,
            category=category.name,
            relative_path=path.relative_to(category).as_posix(),
            split=split,
            defect_types=(DEFECT,) if path.stem in masks else (),
            gt_mask_paths=(masks[path.stem],) if path.stem in masks else (),
            group_id=None,
            where="",
        )
        for path in images
    ]


def _require_masks(table: Path, masks: dict[str, Path]) -> None:
    """Checks that no defect would pass for a normal image because its mask was lost."""
    if not table.is_file():
        return
    for number, line in enumerate(table.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        fields = line.split()
        if len(fields) >= 3 and fields[1] == "1" and Path(fields[2]).stem not in masks:
            raise DataError(
                f"{table} line {number}: {fields[2]} is defective but has no mask; fetch the data set again, for the "
                "image would pass for a normal one"
            )
