"""The JSON files released with VELM go in, predictions and label keys; `RawPredictions` come out.

Predictions (arXiv 2505.02626, configs/predictions): `{"<category>_<class>_<number>": answer or "good"}`, where "good"
means that the detector stopped the image. Label keys (configs/*_des.json): `{category: {"normal": [...], class:
[display name, description]}}`; an answer counts as the class whose display name it is, letter by letter but for case.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.reporting.imports.raw import RawPredictions, RawRow, read_text, require_once
from velm_train.reporting.imports.truth import numbered_id

UNPARSED = "Unknown class"
"""What the released evaluation calls an answer that is no display name; in it, a class of its own."""

_NORMAL_KEY = "normal"

LabelKeys = Mapping[str, Mapping[str, str]]
"""Category -> display name in lower case -> class key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MisspeltKey:
    """A class key of the label file that no image has, and the class without a key that it stands for."""

    category: str
    key: str
    defect_type: str


def read_label_keys(path: Path) -> dict[str, dict[str, str]]:
    """Reads the display names of every class.

    Raises:
        DataError: naming the entry that is not as it has to be.
    """
    body = _read_object(path)
    found: dict[str, dict[str, str]] = {}
    for category, classes in body:
        if not isinstance(classes, _Pairs):
            raise DataError(f"{path}: category {category!r} is {classes!r}; an object of classes is expected")
        names: dict[str, str] = {}
        for key, entry in classes:
            if key == _NORMAL_KEY:
                continue
            if not (isinstance(entry, list) and entry and all(isinstance(text, str) for text in entry)):
                raise DataError(f"{path}: {category}/{key} is {entry!r}; [display name, description] is expected")
            name = entry[0].lower()
            if name in names:
                raise DataError(f"{path}: {category}: classes {names[name]!r} and {key!r} are both called {name!r}")
            names[name] = key
        found[category] = names
    return found


def read_velm_predictions(path: Path, *, label_keys: LabelKeys) -> RawPredictions:
    """Reads released predictions; answers become class keys as the label file spells them, or `UNPARSED`.

    Image ids become `category/class/number`.

    Raises:
        DataError: naming the entry that is not as it has to be, or that holds an image again.
    """
    entries = _read_object(path)
    if not entries:
        raise DataError(f"{path} holds no prediction; at least one is needed")
    rows = tuple(
        _row(path, number, key, answer, label_keys=label_keys) for number, (key, answer) in enumerate(entries, start=1)
    )
    require_once(path, ((row.image_id, row.where) for row in rows))
    return RawPredictions(path=path, rows=rows, notes=())


def find_misspelt_keys(label_keys: LabelKeys, types: Mapping[str, tuple[str, ...]]) -> tuple[MisspeltKey, ...]:
    """Returns class keys without images whose nearest spelling is a class without a key.

    Args:
        label_keys: the label file.
        types: category -> classes that have images.
    """
    found = []
    for category, names in label_keys.items():
        known = types[category] if category in types else ()
        keys = set(names.values())
        free = [name for name in known if name not in keys]
        for key in sorted(keys - set(known)):
            near = difflib.get_close_matches(key, free, n=1, cutoff=0.8)
            if near:
                free.remove(near[0])
                found.append(MisspeltKey(category=category, key=key, defect_type=near[0]))
    return tuple(found)


def with_repaired_keys(label_keys: LabelKeys, misspelt: tuple[MisspeltKey, ...]) -> dict[str, dict[str, str]]:
    """Returns the label file with the classes' own names in place of misspelt keys."""
    repaired = {(one.category, one.key): one.defect_type for one in misspelt}
    return {
        category: {
            name: repaired[(category, key)] if (category, key) in repaired else key for name, key in names.items()
        }
        for category, names in label_keys.items()
    }


def _row(path: Path, number: int, key: str, answer: object, *, label_keys: LabelKeys) -> RawRow:
    where = f"entry {number} ({key!r})"
    if not isinstance(answer, str):
        raise DataError(f"{path}, {where}: the answer is {answer!r}; text is expected")
    category, kind, image = _parts(path, where, key, categories=label_keys)
    stopped = answer == NORMAL_DEFECT_TYPE
    names = label_keys[category]
    named = names[answer.lower()] if answer.lower() in names else UNPARSED
    return RawRow(
        where=where,
        image_id=numbered_id(category, kind, image),
        category=category,
        gt_defect_type=kind,
        answer=NORMAL_DEFECT_TYPE if stopped else named,
        said=answer,
        flagged=not stopped,
        anomaly_score=None,
        p_value=None,
        group=None,
        gate_policy="detector",
        source=None,
    )


def _parts(path: Path, where: str, key: str, *, categories: LabelKeys) -> tuple[str, str, int]:
    """Splits a key at its category, which may hold underscores itself, and at the number behind the last one."""
    fitting = [category for category in categories if key.startswith(f"{category}_")]
    if not fitting:
        raise DataError(f"{path}, {where}: the key begins with no category of the label keys: {', '.join(categories)}")
    category = max(fitting, key=len)
    kind, separator, number = key.removeprefix(f"{category}_").rpartition("_")
    if not separator or not kind or not number.isdigit():
        raise DataError(f"{path}, {where}: the key is not of the form <category>_<class>_<number>")
    return category, kind, int(number)


def _read_object(path: Path) -> list[tuple[str, Any]]:
    """Reads a JSON object as pairs, inner objects as well, so that a key given twice is not lost."""
    text = read_text(path)
    try:
        body = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is damaged or cut ({error}); get the file again") from error
    if not isinstance(body, _Pairs):
        raise DataError(f"{path} holds a list or a single value; a JSON object is expected")
    return body


class _Pairs(list[tuple[str, Any]]):
    """The pairs of a JSON object; a JSON list is a plain list."""
