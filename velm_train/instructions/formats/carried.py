"""What travels inside every exported record: a sample in, plain JSON out, and back to an equal sample.

Other trainers read the visible part of a record (turns, pictures). Boxes, contours, hashes, options and provenance
travel beside it, and when a record is read back, the visible part must still be what the sample says.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import InstructionSample
from velm_train.instructions.formats.pictures import require_picture_file
from velm_train.instructions.store import sample_from_json, sample_to_json

CARRIED_VERSION = 1
_FIELDS = {"schema_version", "number", "total", "pictures", "sample", "sha256"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """One sample on its way out.

    Attributes:
        pictures: path of each view's picture relative to the export's folder, in the order of the views.
        number: place among all exported samples, from 1.
        total: number of exported samples, so that a missing record is noticed.
    """

    sample: InstructionSample
    pictures: tuple[str, ...]
    number: int
    total: int

    def carried(self) -> dict[str, Any]:
        """Returns what travels inside the record, in the kinds that JSON gives back."""
        sample = json.loads(json.dumps(sample_to_json(self.sample)))
        return {
            "schema_version": CARRIED_VERSION,
            "number": self.number,
            "total": self.total,
            "pictures": list(self.pictures),
            "sample": sample,
            "sha256": sha256_json(sample),
        }


def turns_of(sample: InstructionSample) -> list[tuple[str, str]]:
    """Returns role and text of every turn, the answer last."""
    return [*((message.role, message.text) for message in sample.messages), ("assistant", sample.target)]


def read_back(
    rows: Sequence[Mapping[str, Any]],
    *,
    carried_in: Callable[[Mapping[str, Any]], object],
    make_row: Callable[[Exported], Mapping[str, Any]],
    pictures_root: Path | None,
    source: Path,
) -> list[InstructionSample]:
    """Reads the samples that exported records carry.

    Args:
        rows: every record of the export, in order.
        carried_in: takes out of a record what `Exported.carried` put in; a KeyError or TypeError means that it is not
            there.
        make_row: makes the record again; it must be equal, field by field.
        pictures_root: folder that the picture files are relative to; None if the reader has checked the pictures.
        source: the file or folder, for messages.

    Raises:
        DataError: naming the first record that was edited, damaged, reordered or left out.
    """
    samples: list[InstructionSample] = []
    checked: set[str] = set()
    for number, row in enumerate(rows, start=1):
        exported = _exported(row, carried_in=carried_in, where=f"{source}: record {number}")
        where = f"{source}: record {number} ({exported.sample.sample_id})"
        if (exported.number, exported.total) != (number, len(rows)):
            raise DataError(
                f"{where} was exported as number {exported.number} of {exported.total} but is number {number} of "
                f"{len(rows)}; records were left out, added or moved, export the samples again"
            )
        expected = make_row(exported)
        for key in dict.fromkeys([*expected, *row]):
            if key not in row or key not in expected or row[key] != expected[key]:
                raise DataError(
                    f"{where}: {key!r} is not what the sample in it says; undo the edit or export the samples again"
                )
        if pictures_root is not None:
            for name in dict.fromkeys(exported.pictures):
                if name not in checked:
                    require_picture_file(pictures_root, name, where=where)
                    checked.add(name)
        samples.append(exported.sample)
    if not samples:
        raise DataError(f"{source} holds no record; export the samples again")
    return samples


def _exported(row: Mapping[str, Any], *, carried_in: Callable[[Mapping[str, Any]], object], where: str) -> Exported:
    try:
        body = carried_in(row)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where} carries no sample of this project ({error!r}); only what export_samples wrote can be read back"
        ) from error
    if not isinstance(body, dict) or set(body) != _FIELDS:
        raise DataError(f"{where}: what it carries is damaged; export the samples again")
    if body["schema_version"] != CARRIED_VERSION:
        raise DataError(
            f"{where}: schema version {body['schema_version']} instead of {CARRIED_VERSION}; export the samples again"
        )
    if sha256_json(body["sample"]) != body["sha256"]:
        raise DataError(f"{where}: the sample it carries was edited; undo the edit or export the samples again")
    try:
        exported = Exported(
            sample=sample_from_json(body["sample"]),
            pictures=tuple(body["pictures"]),
            number=body["number"],
            total=body["total"],
        )
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: the sample it carries is damaged ({error}); export the samples again") from error
    if len(exported.pictures) != len(exported.sample.views):
        raise DataError(
            f"{where}: {len(exported.pictures)} pictures for {len(exported.sample.views)} views; export them again"
        )
    return exported
