"""Reads KolektorSDD2: `{train,test}/NNNNN.png` with `NNNNN_GT.png` beside each in, `FoundImage`s of one category out.

Source of the layout: Bozic, Tabernik and Skocaj, "Mixed supervision for surface-defect detection", Computers in
Industry 129, 2021.
"""

from collections.abc import Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import Split
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.mask_values import masks_with_defect
from velm_train.datasets.reading import choose_categories, list_folders, list_images, require_root
from velm_train.datasets.stems import by_stem

KOLEKTOR_SDD2 = "kolektor_sdd2"
"""Name of the only category."""

DEFECT = "defect"
"""The only defect type: the set tells no types apart."""

_SPLITS: tuple[Split, Split] = ("train", "test")
_MASK_ENDING = "_GT"
_COPY_ENDING = " (copy)"
"""The published archive holds `10301 (copy).png` and `10301_GT (copy).png`, equal to the files they are named after."""


def find_kolektor_sdd2(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds the set's images; a blank mask makes an image normal, so every mask is opened.

    Defects of the folder `train` are defects of split "train". The mask of a normal image is not kept.

    Args:
        root: folder that holds `train` and `test`.
        categories: empty, or the set's only one, `kolektor_sdd2`.

    Raises:
        DataError: if the root is wrong, or an image has no mask, a mask no image, or a mask cannot be read.
    """
    require_root(root)
    choose_categories([KOLEKTOR_SDD2], categories, root=root)
    _require_level(root)
    images: list[FoundImage] = []
    copies: list[str] = []
    for split in _SPLITS:
        files = list_images(root / split)
        copies += [f"{split}/{path.name}" for path in files if path.stem.endswith(_COPY_ENDING)]
        masks = _pair(root / split, [path for path in files if not path.stem.endswith(_COPY_ENDING)])
        shows_defect = masks_with_defect(list(masks.values()))
        images += [
            FoundImage(
                path=path,
                category=KOLEKTOR_SDD2,
                relative_path=f"{split}/{path.name}",
                split=split,
                defect_types=(DEFECT,) if shows_defect[gt_mask_path] else (),
                gt_mask_paths=(gt_mask_path,) if shows_defect[gt_mask_path] else (),
                group_id=None,
                where="",
            )
            for path, gt_mask_path in masks.items()
        ]
    notes = (f"copies of other files are passed over: {', '.join(copies)}",) if copies else ()
    return Found(images=tuple(images), notes=notes)


def _require_level(root: Path) -> None:
    if all((root / split).is_dir() for split in _SPLITS):
        return
    deeper = [folder for folder in list_folders(root) if all((folder / split).is_dir() for split in _SPLITS)]
    hint = f"; {deeper[0]} does: set dataset.root to it" if deeper else ""
    raise DataError(f"data root {root} does not hold the folders train and test{hint}")


def _pair(folder: Path, files: Sequence[Path]) -> dict[Path, Path]:
    """Returns image -> mask."""
    masks = by_stem([path for path in files if path.stem.endswith(_MASK_ENDING)], ending=_MASK_ENDING)
    images = by_stem([path for path in files if not path.stem.endswith(_MASK_ENDING)], ending="")
    if not images:
        raise DataError(f"no images in {folder}")
    for stem in sorted(set(images) ^ set(masks)):
        if stem in images:
            raise DataError(
                f"image {images[stem]} has no mask {stem}{_MASK_ENDING}.png beside it, so nobody knows whether it is "
                "normal; add the mask or remove the image"
            )
        raise DataError(f"mask {masks[stem]} has no image named {stem} beside it")
    return {images[stem]: masks[stem] for stem in images}
