"""Fine defect types from the values of mask pixels: images and `defects_config.json` in, images with types out."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, TYPE_JOINER
from velm_train.datasets.found import Found, FoundImage
from velm_train.datasets.mask_values import values_of_masks

DEFECTS_CONFIG = "defects_config.json"
"""Table beside a category's folders: a list of objects with defect_name, pixel_value and two thresholds of a metric."""


def read_defects_config(path: Path) -> dict[int, str]:
    """Reads which pixel value stands for which defect type; the metric's thresholds are not needed and not read.

    Returns:
        Pixel value, above 0 -> name of the type.

    Raises:
        DataError: naming the entry that is not as it has to be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, list) or not content:
        raise DataError(f"{path}: a list of defect types is expected, got {type(content).__name__} or nothing")
    names: dict[int, str] = {}
    for number, entry in enumerate(content, start=1):
        where = f"{path} entry {number}"
        if not isinstance(entry, dict) or not {"defect_name", "pixel_value"} <= set(entry):
            raise DataError(f"{where}: an object with defect_name and pixel_value is expected, got {entry!r}")
        name, value = entry["defect_name"], entry["pixel_value"]
        if not isinstance(name, str) or not name or name == NORMAL_DEFECT_TYPE or TYPE_JOINER in name:
            raise DataError(f"{where}: defect_name is {name!r}; a name without {TYPE_JOINER!r} is expected")
        if type(value) is not int or value < 1:
            raise DataError(f"{where}: pixel_value is {value!r}; a whole number above 0 is expected")
        if value in names:
            raise DataError(f"{where}: pixel_value {value} is already that of {names[value]!r}")
        names[value] = name
    return names


def with_fine_types(images: Sequence[FoundImage], config: Path) -> Found:
    """Replaces a defect's coarse folder name by the types that its masks' pixel values stand for.

    A folder that the table names is a type already and stays. A defect without a mask keeps its folder's name.

    Args:
        images: of one category.
        config: its `defects_config.json`.

    Raises:
        DataError: if the table or a mask cannot be read, masks are blank, or a value is not in the table.
    """
    names = read_defects_config(config)
    coarse = [image for image in images if image.defect_types and not set(image.defect_types) <= set(names.values())]
    values = values_of_masks([path for image in coarse for path in image.gt_mask_paths])
    fine = {image.path: _types(image, values, names=names, config=config) for image in coarse if image.gt_mask_paths}
    num_without = len(coarse) - len(fine)
    notes: list[str] = []
    if num_without:
        notes.append(f"{coarse[0].category}: {num_without} defects have no mask and keep their folder's name as type")
    retyped = [
        dataclasses.replace(image, defect_types=fine[image.path]) if image.path in fine else image for image in images
    ]
    return Found(images=tuple(retyped), notes=tuple(notes))


def _types(
    image: FoundImage, values: Mapping[Path, frozenset[int]], *, names: Mapping[int, str], config: Path
) -> tuple[str, ...]:
    found: set[str] = set()
    for path in image.gt_mask_paths:
        for value in sorted(values[path]):
            if value not in names:
                known = ", ".join(f"{known} {name}" for known, name in sorted(names.items()))
                raise DataError(f"mask {path} holds the value {value}, which {config} does not name; named: {known}")
            found.add(names[value])
    if not found:
        raise DataError(f"all masks of {image.path} are blank, so its type is unknown; mend or remove them")
    return tuple(sorted(found))
