"""ShareGPT JSON with role/content turns: exported samples in, what LLaMA-Factory and ms-swift read out, and back.

Keys as in LLaMA-Factory's data/README.md ("Sharegpt Format", "OpenAI Format") and in ms-swift's "Custom dataset" page:
`messages` with `role` and `content`, and `images` in the order of the `<image>` placeholders. What is carried is one
text, because both load the file as a table, where records with different fields do not fit together.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from velm_train.core.artifacts import write_atomic
from velm_train.core.records import InstructionSample
from velm_train.instructions.formats.carried import Exported, read_back, turns_of
from velm_train.instructions.formats.json_files import read_records, write_records

RECORDS_NAME = "samples.json"
DATASET_NAME = "velm_train"
"""What LLaMA-Factory calls the data set."""

_CARRIED = "velm_train"


def write_sharegpt(exported: Sequence[Exported], folder: Path) -> None:
    """Writes the records and LLaMA-Factory's dataset_info.json.

    Raises:
        ResourceError: if a file cannot be written.
    """
    write_records((_row(one) for one in exported), folder / RECORDS_NAME)
    write_atomic(folder / "dataset_info.json", json.dumps(dataset_info(), indent=2) + "\n")


def read_sharegpt(folder: Path) -> list[InstructionSample]:
    """Reads back what `write_sharegpt` wrote.

    Raises:
        DataError: if a record is not as it was exported.
    """
    path = folder / RECORDS_NAME
    return read_back(
        read_records(path),
        carried_in=lambda row: json.loads(row[_CARRIED]),
        make_row=_row,
        pictures_root=folder,
        source=path,
    )


def dataset_info() -> dict[str, Any]:
    """Returns how LLaMA-Factory is to read the records."""
    return {
        DATASET_NAME: {
            "file_name": RECORDS_NAME,
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
    }


def _row(exported: Exported) -> Mapping[str, Any]:
    return {
        "messages": [{"role": role, "content": text} for role, text in turns_of(exported.sample)],
        "images": list(exported.pictures),
        _CARRIED: json.dumps(exported.carried()),
    }
