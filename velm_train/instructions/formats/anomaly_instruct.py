"""Anomaly-Instruct JSON (Anomaly-OneVision): a file in, conversations out; and exported samples in the same form.

A record is `{"id", "image": path or paths, "conversations": [{"from": "human" | "gpt", "value"}], "metadata"}`; paths
are relative to the data folder. The published conversations hold prose only; masks are named in the metadata.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, InstructionSample, Message
from velm_train.instructions.formats.carried import Exported, read_back, turns_of
from velm_train.instructions.formats.json_files import (
    object_of,
    objects_of,
    others_of,
    read_records,
    text_of,
    texts_of,
    write_records,
)
from velm_train.instructions.wording import IMAGE_PLACEHOLDER

RECORDS_NAME = "samples.json"

_SPEAKERS = {"user": "human", "assistant": "gpt"}
_KNOWN = ("id", "image", "conversations", "metadata")
_CARRIED = "velm_train"
_TARGET = "2D"
"""What the published records call pictures that are no views of a point cloud."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """One Anomaly-Instruct record.

    Attributes:
        sample_id: the record's id as text; the published files do not promise that it is unique.
        image_paths: one path, or several for the views of one object.
        turns: user and assistant in turn, the user first and the assistant last.
        metadata: the record's metadata, and every field of the record that the format does not name.
    """

    sample_id: str
    image_paths: tuple[Path, ...]
    turns: tuple[Message, ...]
    metadata: dict[str, Any]

    @property
    def gt_label(self) -> bool | None:
        """True if the record is said to show an anomaly; None if it does not say."""
        return self.metadata["anomaly"] if "anomaly" in self.metadata else None


def read_anomaly_instruct(path: Path, *, image_root: Path) -> tuple[Conversation, ...]:
    """Reads an Anomaly-Instruct file.

    The placeholders of a conversation must be as many as its images, or one for all views of a multi-view record.
    Images are not opened.

    Args:
        path: the JSON file.
        image_root: folder that the paths in it are relative to.

    Raises:
        DataError: naming the record that is not as it has to be.
    """
    rows = read_records(path)
    return tuple(
        _conversation(row, image_root=image_root, where=f"{path}: record {number}")
        for number, row in enumerate(rows, start=1)
    )


def _conversation(row: Mapping[str, Any], *, image_root: Path, where: str) -> Conversation:
    if "id" not in row or not isinstance(row["id"], str | int):
        raise DataError(f"{where}: 'id' is missing or neither text nor a number")
    where = f"{where} (id {row['id']!r})"
    names = (
        (text_of(row, "image", where=where),)
        if isinstance(row.get("image"), str)
        else texts_of(row, "image", where=where)
    )
    if not all(names):
        raise DataError(f"{where}: 'image' is {list(names)}; every image needs a path")
    turns = _turns(row, where=where)
    num_placeholders = sum(turn.text.count(IMAGE_PLACEHOLDER) for turn in turns)
    if num_placeholders not in {1, len(names)} or not names:
        raise DataError(f"{where}: {len(names)} images but {num_placeholders} {IMAGE_PLACEHOLDER} placeholders")
    return Conversation(
        sample_id=str(row["id"]),
        image_paths=tuple(image_root / name for name in names),
        turns=turns,
        metadata=_metadata(row, where=where),
    )


def _turns(row: Mapping[str, Any], *, where: str) -> tuple[Message, ...]:
    turns: list[Message] = []
    for number, turn in enumerate(objects_of(row, "conversations", where=where), start=1):
        here = f"{where}, turn {number}"
        if unknown := sorted(others_of(turn, ("from", "value"))):
            raise DataError(f"{here}: unknown fields {unknown}; a turn has 'from' and 'value'")
        speaker, expected = text_of(turn, "from", where=here), "human" if number % 2 else "gpt"
        if speaker != expected:
            raise DataError(f"{here}: 'from' is {speaker!r}; {expected!r} is expected, human and gpt speak in turn")
        turns.append(Message(role="user" if number % 2 else "assistant", text=text_of(turn, "value", where=here)))
    if not turns or turns[-1].role != "assistant":
        raise DataError(f"{where}: {len(turns)} turns; a conversation ends with an answer of gpt")
    return tuple(turns)


def _metadata(row: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    metadata = object_of(row, "metadata", where=where) if "metadata" in row else {}
    others = others_of(row, _KNOWN)
    if twice := sorted(set(metadata) & set(others)):
        raise DataError(f"{where}: {twice} stand both in the record and in its metadata; keep one of them")
    if "anomaly" in metadata and not isinstance(metadata["anomaly"], bool):
        raise DataError(f"{where}: metadata 'anomaly' is {metadata['anomaly']!r}; true or false is expected")
    return {**metadata, **others}


def write_anomaly_instruct(exported: Sequence[Exported], folder: Path) -> None:
    """Writes exported samples as Anomaly-Instruct records.

    Raises:
        DataError: if a sample has a system turn, which the format cannot hold, or does not say what the truth is.
        ResourceError: if the file cannot be written.
    """
    write_records((_row(one) for one in exported), folder / RECORDS_NAME)


def read_exported_anomaly_instruct(folder: Path) -> list[InstructionSample]:
    """Reads back what `write_anomaly_instruct` wrote.

    Raises:
        DataError: if a record is not as it was exported.
    """
    path = folder / RECORDS_NAME
    return read_back(
        read_records(path),
        carried_in=lambda row: row["metadata"][_CARRIED],
        make_row=_row,
        pictures_root=folder,
        source=path,
    )


def _row(exported: Exported) -> Mapping[str, Any]:
    sample = exported.sample
    turns = turns_of(sample)
    if any(role not in _SPEAKERS for role, _ in turns):
        raise DataError(f"{sample.sample_id}: Anomaly-Instruct has no system turn; export to another format")
    if "answer_defect_type" not in sample.provenance:
        raise DataError(
            f"{sample.sample_id}: the provenance has no answer_defect_type, which says whether there is an anomaly"
        )
    return {
        "id": sample.sample_id,
        "image": exported.pictures[0] if len(exported.pictures) == 1 else list(exported.pictures),
        "conversations": [{"from": _SPEAKERS[role], "value": text} for role, text in turns],
        "metadata": {
            "anomaly": sample.provenance["answer_defect_type"] != NORMAL_DEFECT_TYPE,
            "target": _TARGET,
            _CARRIED: exported.carried(),
        },
    }
