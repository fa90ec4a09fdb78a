"""A Hugging Face `datasets` folder in TRL's conversational vision form: exported samples in, Arrow files out, and back.

Columns: `images` (PNG bytes inside the Arrow file), `prompt` and `completion` (turns whose content is a list of parts
`{"type": "image"}` and `{"type": "text", "text": ...}`), and what is carried as one text. Prompt and completion are
apart because TRL then puts the loss on the answer alone, as this project does. Source: TRL documentation, "Dataset
formats and types", sections "Prompt-completion" and "Vision datasets".
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from datasets import Dataset, Features, Image, List, Value, load_from_disk
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from velm_train.core.errors import DataError
from velm_train.core.records import InstructionSample
from velm_train.instructions.formats.carried import Exported, read_back, turns_of
from velm_train.instructions.formats.pictures import PICTURES_FOLDER, require_picture
from velm_train.instructions.wording import IMAGE_PLACEHOLDER

_CARRIED = "velm_train"
_TURNS = List({"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})})
_FEATURES = Features({"images": List(Image()), "prompt": _TURNS, "completion": _TURNS, _CARRIED: Value("string")})


def write_hf_datasets(exported: Sequence[Exported], folder: Path) -> None:
    """Writes the Arrow files; the PNG files in the folder go into them and are removed."""
    rows = [_row(one) for one in exported]
    columns = {name: [row[name] for row in rows] for name in _FEATURES}
    columns["images"] = [[str(folder / name) for name in row["images"]] for row in rows]
    with _without_progress_bars():
        Dataset.from_dict(columns, features=_FEATURES).save_to_disk(folder)
    shutil.rmtree(folder / PICTURES_FOLDER)


def read_hf_datasets(folder: Path) -> list[InstructionSample]:
    """Reads back what `write_hf_datasets` wrote.

    Raises:
        DataError: if the folder cannot be loaded or a record is not as it was exported.
    """
    try:
        with _without_progress_bars():
            dataset = load_from_disk(folder)
            rows = [_plain(row, where=f"{folder}: record {number}") for number, row in enumerate(_rows(dataset), 1)]
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:  # Arrow's errors are among these
        raise DataError(f"{folder} cannot be loaded ({error}); export the samples again") from error
    return read_back(
        rows,
        carried_in=lambda row: json.loads(row[_CARRIED]),
        make_row=_row,
        pictures_root=None,
        source=folder,
    )


def _rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Yields one record after the other with the pictures' bytes, which the plain format would decode."""
    for one in dataset.with_format("arrow").iter(batch_size=1):
        yield from one.to_pylist()


def _plain(row: dict[str, Any], *, where: str) -> dict[str, Any]:
    """Returns a stored record as `_row` makes it, after checking its pictures."""
    names = []
    for picture in row["images"]:
        names.append(f"{PICTURES_FOLDER}/{PurePosixPath(picture['path']).name}")
        require_picture(picture["bytes"], names[-1], where=where)
    return row | {"images": names}


def _row(exported: Exported) -> Mapping[str, Any]:
    turns = [{"role": role, "content": _parts(text)} for role, text in turns_of(exported.sample)]
    return {
        "images": list(exported.pictures),
        "prompt": turns[:-1],
        "completion": turns[-1:],
        _CARRIED: json.dumps(exported.carried()),
    }


def _parts(text: str) -> list[dict[str, str | None]]:
    """Splits a text at its placeholders; joined again, the parts are the text."""
    parts: list[dict[str, str | None]] = []
    for number, piece in enumerate(text.split(IMAGE_PLACEHOLDER)):
        if number:
            parts.append({"type": "image", "text": None})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keeps the library from drawing bars of its own."""
    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
