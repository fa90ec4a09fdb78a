"""What a synthesis says about itself: `synthesis.json`, and the journal that lets a killed run go on."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import DataError, ResourceError
from velm_train.core.hashing import canonical_json, sha256_file, sha256_json
from velm_train.core.records import ImageRecord, Split
from velm_train.datasets.synthesis.plan import SynthesisSettings

SYNTHESIS_VERSION = 1
"""Raised when the same arguments give other pixels."""

SCHEMA_VERSION = 1
STATEMENT_FILE = "synthesis.json"
JOURNAL_FILE = ".synthesis.jsonl"
"""Rows of finished images; only while a synthesis is under way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GoodRow:
    """One good image: its path below the root, the image_id and the hash of its source."""

    image: str
    source: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticRow:
    """One defect image.

    Attributes:
        image: path below the root.
        gt_mask: path below the root.
        side: of a split that the image is for.
        source: image_id of the good image under the defect.
        group: as in `groups.csv`.
    """

    image: str
    gt_mask: str
    category: str
    defect_type: str
    side: Split
    source: str
    source_sha256: str
    group: str
    sha256: str
    gt_mask_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOutType:
    """A type that could not be laid on a category's images."""

    category: str
    defect_type: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """A finished synthesis.

    Attributes:
        request: version, settings, recipes and the hash of the good images.
        goods: images of train/good and test/good.
        defects: in order of category, type and number.
        left_out: types missing in a category.
        new_test_good: categories whose test/good is taken from their training images, as they had none.
    """

    request: dict[str, Any]
    goods: tuple[GoodRow, ...]
    defects: tuple[SyntheticRow, ...]
    left_out: tuple[LeftOutType, ...]
    new_test_good: tuple[str, ...]


def source_hash(records: Sequence[ImageRecord]) -> str:
    """Returns the hash of everything about the good images that decides what is made."""
    return sha256_json(sorted([record.image_id, record.sha256, record.group_id, record.split] for record in records))


def claim_folder(
    out: Path, *, records: Sequence[ImageRecord], recipes: Mapping[str, Sequence[str]], settings: SynthesisSettings
) -> dict[str, Any]:
    """Makes the folder this synthesis's own, or finds that it is; returns the request as it is written down.

    Raises:
        DataError: if the folder holds anything else.
        ResourceError: if it cannot be written.
    """
    request = {
        "version": SYNTHESIS_VERSION,
        "seed": settings.seed,
        "per_type": settings.per_type,
        "foreground": settings.foreground,
        "recipes": {name: list(recipes[name]) for name in sorted(recipes)},
        "good_images_sha256": source_hash(records),
    }
    path = out / STATEMENT_FILE
    if path.is_file():
        found = _read(path)["request"]
        if canonical_json(found) != canonical_json(request):
            differs = sorted(key for key in request if found.get(key) != request[key])
            raise DataError(
                f"{out} holds a synthesis with another {', '.join(differs)}; choose another folder, or delete this one"
            )
        return request
    if out.is_dir() and any(not entry.name.endswith(".partial") for entry in out.iterdir()):
        raise DataError(f"{out} is not empty and holds no {STATEMENT_FILE}; choose a new or empty folder")
    write_atomic(path, json.dumps({"schema_version": SCHEMA_VERSION, "complete": False, "request": request}, indent=1))
    return request


def write_statement(out: Path, statement: Statement) -> None:
    """Writes `synthesis.json` and ends the journal."""
    body = {"schema_version": SCHEMA_VERSION, "complete": True, **dataclasses.asdict(statement)}
    write_atomic(out / STATEMENT_FILE, json.dumps(body, indent=1))
    (out / JOURNAL_FILE).unlink(missing_ok=True)
    for leftover in out.rglob(".*.partial"):  # of a run that was killed while it wrote a file
        leftover.unlink()


def read_statement(out: Path) -> Statement:
    """Reads a finished synthesis.

    Raises:
        DataError: if the folder holds none, or an unfinished one.
    """
    body = _read(out / STATEMENT_FILE)
    if not body["complete"]:
        raise DataError(f"{out / STATEMENT_FILE} belongs to an unfinished synthesis; run the same command again")
    return Statement(
        request=body["request"],
        goods=tuple(GoodRow(**row) for row in body["goods"]),
        defects=tuple(SyntheticRow(**row) for row in body["defects"]),
        left_out=tuple(LeftOutType(**row) for row in body["left_out"]),
        new_test_good=tuple(body["new_test_good"]),
    )


def finished_statement(out: Path) -> Statement | None:
    """Returns the statement of a finished synthesis after checking its files, or None of an unfinished one.

    Raises:
        DataError: naming a file that is missing or has another content.
    """
    if not _read(out / STATEMENT_FILE)["complete"]:
        return None
    statement = read_statement(out)
    files = [(good.image, good.sha256) for good in statement.goods]
    files += [(row.image, row.sha256) for row in statement.defects]
    files += [(row.gt_mask, row.gt_mask_sha256) for row in statement.defects]
    for name, sha256 in files:
        if not (out / name).is_file() or sha256_file(out / name) != sha256:
            raise DataError(f"{out / name} is missing or damaged; delete {out} and run again to make it anew")
    return statement


def _read(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete its folder and make the set anew") from error
    if not isinstance(body, dict) or body.get("schema_version") != SCHEMA_VERSION:
        raise DataError(f"{path} is not of schema version {SCHEMA_VERSION}; make the set anew with this version")
    return body


class Journal:
    """Remembers finished images, one line each, so that a run after a kill does not make them again."""

    def __init__(self, out: Path) -> None:
        """Reads what an interrupted run has left; rows whose files are gone do not count."""
        self._path = out / JOURNAL_FILE
        rows = _complete_lines(self._path) if self._path.is_file() else ()
        known = [SyntheticRow(**json.loads(line)) for line in rows]
        self._rows = {row.image: row for row in known if (out / row.image).is_file() and (out / row.gt_mask).is_file()}

    def row(self, image: str) -> SyntheticRow | None:
        """Returns the row of a finished image, or None."""
        return self._rows.get(image)

    def add(self, row: SyntheticRow) -> None:
        """Writes down that an image is finished.

        Raises:
            ResourceError: if the journal cannot be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write("\n" + json.dumps(dataclasses.asdict(row)) + "\n")
        except OSError as error:
            raise ResourceError(f"cannot write {self._path}: {error.strerror}; check space and permissions") from error


def _complete_lines(path: Path) -> Iterator[str]:
    """Yields the rows; a line that a kill has cut off has no end, or is no JSON object."""
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.startswith("{") and line.endswith("}"):
            yield line
