"""Reads VisA-AC, VisA with one type an image: its own folders or plain VisA and a list in, `FoundImage`s out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, Split
from velm_train.datasets.found import Found, FoundImage, types_of_folder
from velm_train.datasets.known_sets import known_categories, notes_on_masks, require_known_types
from velm_train.datasets.mvtec_style import find_category, pair_masks, with_groups
from velm_train.datasets.reading import list_images
from velm_train.datasets.visa_layout import (
    ANOMALY_FOLDER,
    CLASSES_FILE,
    MASK_FOLDER,
    NORMAL_FOLDER,
    VisaAcCategory,
    number_images,
    read_visa_ac_classes,
    refuse_conversion,
)

VISA_AC = "VisA-AC"

_SUFFIX = ".JPG"
_DIGITS = 3
"""Of the number in the name of an anomalous image, and of a normal one in categories of up to 999 normals."""


def find_visa_ac(root: Path, *, categories: Sequence[str]) -> Found:
    """Finds the images of VisA-AC, with the same image ids from either kind of copy.

    Args:
        root: the copy arranged by VisA-AC's authors (`<category>/test/<type>`, masks in `groundtruth/<type>`, perhaps
            `train/good`), or VisA as downloaded, of which the listed images are taken.
        categories: categories to read; empty for all that are there.

    Raises:
        DataError: if the root is neither, or naming the image, mask or type that is wrong.
    """
    classes = read_visa_ac_classes()
    chosen, notes = known_categories(root, categories, dataset=VISA_AC, known=classes, inside=("Data", "train", "test"))
    plain = [category for category in chosen if (root / category / "Data").is_dir()]
    if plain and len(plain) < len(chosen):
        other = next(category for category in chosen if category not in plain)
        raise DataError(f"{root} mixes VisA ({plain[0]}) and VisA-AC ({other}); give one of them")
    refuse_conversion(root, chosen)
    read = _from_visa if plain else _from_own_folders
    images, more = read(root, {category: classes[category] for category in chosen})
    return Found(images=tuple(with_groups(root, images)), notes=(*notes, *more, *notes_on_masks(images)))


def _from_own_folders(root: Path, classes: Mapping[str, VisaAcCategory]) -> tuple[list[FoundImage], list[str]]:
    images = [image for category in classes for image in find_category(root / category, needs_train=False)]
    known = {category: tuple(listed.anomalies) for category, listed in classes.items()}
    require_known_types(images, known, dataset=VISA_AC, hint="rename the folder as VisA-AC has it")
    notes: list[str] = []
    bare = [category for category in classes if not list_images(root / category / "train" / NORMAL_DEFECT_TYPE)]
    if bare:
        notes.append(f"no normal images in train/good, add VisA's to learn from: {', '.join(bare)}")
    expected = sum(len(numbers) for listed in classes.values() for numbers in listed.anomalies.values())
    there = sum(bool(image.defect_types) for image in images)
    if there != expected:
        notes.append(f"{there} anomalous images are there, VisA-AC has {expected} in these categories")
    return images, notes


def _from_visa(root: Path, classes: Mapping[str, VisaAcCategory]) -> tuple[list[FoundImage], list[str]]:
    images: list[FoundImage] = []
    num_left_out = 0
    for category, listed in classes.items():
        folder = root / category
        normals = number_images(folder / NORMAL_FOLDER)
        if not normals:
            raise DataError(f"category {category!r}: no normal images in {folder / NORMAL_FOLDER}")
        digits = min(len(path.stem) for path in normals.values())
        for number in sorted({*normals, *listed.test_normals}):
            split: Split = "test" if number in listed.test_normals else "train"
            path = normals[number] if number in normals else folder / NORMAL_FOLDER / _name(number, digits=digits)
            images.append(_image(path, folder=folder, split=split, type_name=NORMAL_DEFECT_TYPE, masks=()))
        anomalies = number_images(folder / ANOMALY_FOLDER)
        wanted = {number: type_name for type_name, numbers in listed.anomalies.items() for number in numbers}
        num_left_out += len(set(anomalies) - set(wanted))
        absent = set(wanted) - set(anomalies)
        paths = anomalies | {number: folder / ANOMALY_FOLDER / _name(number, digits=_DIGITS) for number in absent}
        masks = pair_masks(list(paths.values()), folder / MASK_FOLDER)
        for number, type_name in wanted.items():
            mask_paths = masks.get(paths[number], ())
            images.append(_image(paths[number], folder=folder, split="test", type_name=type_name, masks=mask_paths))
    notes = [f"made from VisA by {CLASSES_FILE}"]
    if num_left_out:
        notes[0] += f"; {num_left_out} anomalous images of VisA are not in VisA-AC"
    return images, notes


def _name(number: int, *, digits: int) -> str:
    return f"{number:0{digits}d}{_SUFFIX}"


def _image(path: Path, *, folder: Path, split: Split, type_name: str, masks: tuple[Path, ...]) -> FoundImage:
    return FoundImage(
        path=path,
        category=folder.name,
        relative_path=f"{split}/{type_name}/{path.name}",
        split=split,
        defect_types=types_of_folder(type_name),
        gt_mask_paths=masks,
        group_id=None,
        where="" if path.is_file() else CLASSES_FILE,
    )
