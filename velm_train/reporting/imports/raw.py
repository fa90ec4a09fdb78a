"""What a reader of somebody's predictions hands on: one row an image, as it was found, and where."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.core.records import GatePolicy, Prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class RawRow:
    """One image's prediction before anything about it has been believed.

    Attributes:
        where: the place in the file, such as "line 7", for messages.
        category: None if the file does not say.
        gt_defect_type: the true type ("good" is normal), or None if the file does not say.
        answer: what was said about the image: a type, "good", "none of these", or anything else.
        said: the answer word for word, for messages; differs where `answer` is a key that stands for it.
        flagged: whether the gate let the image through, or None if the file does not say.
        anomaly_score: None if the file has no scores.
        p_value: None if the file has none.
        group: None if the file does not say.
        source: the row as this project wrote it, or None if somebody else did.
    """

    where: str
    image_id: str
    category: str | None
    gt_defect_type: str | None
    answer: str
    said: str
    flagged: bool | None
    anomaly_score: float | None
    p_value: float | None
    group: str | None
    gate_policy: GatePolicy
    source: Prediction | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RawPredictions:
    """A file's rows in its own order, and what a reader of the scores has to know about them."""

    path: Path
    rows: tuple[RawRow, ...]
    notes: tuple[str, ...]


def read_text(path: Path) -> str:
    """Reads a text file that must hold something.

    Raises:
        DataError: if it cannot be read, is not UTF-8 text, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    if not text.strip():
        raise DataError(f"{path} is empty; at least one prediction is needed")
    return text


def require_once(path: Path, places: Iterable[tuple[str, str]]) -> None:
    """Refuses an image that a file holds twice.

    Args:
        path: the file.
        places: image id and place of each row.

    Raises:
        DataError: naming both places.
    """
    first: dict[str, str] = {}
    for image_id, where in places:
        if first.setdefault(image_id, where) != where:
            raise DataError(f"{path}, {where}: {image_id!r} is in {first[image_id]} too; keep one row for each image")
