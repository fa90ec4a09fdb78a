"""A real offline W&B run, written by the library itself, is read back; damaged and foreign files are refused."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import HistoryItem, HistoryRecord, Record, RunRecord

from velm_train.core.errors import ArtifactError
from velm_train.reporting.compare_wandb import is_wandb_folder, numbers, read_wandb_file, read_wandb_folder

SETTINGS = {"seed": 3, "lora": {"r": 8, "dropout": 0.05}, "tags": ["a", "b"], "root": None}
NUM_STEPS = 300
LONG_TEXT = "words " * 12_000
"""Longer than two blocks of the file."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run whose file spans several blocks, with one record longer than a block."""
    place = tmp_path_factory.mktemp("wandb")
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True)
    run = wandb.init(project="p", name="n", id="abc123", dir=place, mode="offline", config=SETTINGS, settings=settings)
    for step in range(NUM_STEPS):
        run.log({"loss/total": 2.0 / (step + 1), "trainer/global_step": step + 1})
    run.log({"text": LONG_TEXT})
    run.config.update({"added": True})
    run.log({"gate/image_auroc": 0.75})
    run.summary["best"] = 0.5
    run.finish()
    (found,) = [path for path in (place / "wandb").iterdir() if path.is_dir() and not path.is_symlink()]
    return found


def test_settings_summary_and_history_come_back(folder: Path) -> None:
    assert is_wandb_folder(folder)
    assert not is_wandb_folder(folder.parent)
    run = read_wandb_folder(folder)
    assert (run.run_id, run.finished) == ("abc123", True)
    assert run.settings == SETTINGS | {"added": True}
    assert len(run.history) == NUM_STEPS + 2
    assert [row["loss/total"] for row in run.history[:NUM_STEPS]] == [2.0 / (i + 1) for i in range(NUM_STEPS)]
    assert run.history[NUM_STEPS]["text"] == LONG_TEXT
    assert (run.summary["gate/image_auroc"], run.summary["best"]) == (0.75, 0.5)
    assert run.summary["loss/total"] == 2.0 / NUM_STEPS


def fragment(kind: int, data: bytes) -> bytes:
    """Writes a fragment of LevelDB's log format."""
    return struct.pack("<IHB", zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind) + data


def logged(text: str) -> bytes:
    """Returns a logged step as W&B writes it."""
    return bytes_of(Record(history=HistoryRecord(item=[HistoryItem(key="text", value_json=json.dumps(text))])))


def bytes_of(record: Record) -> bytes:
    return record.SerializeToString()


def test_record_whose_first_fragment_had_room_for_its_header_alone_is_read(tmp_path: Path) -> None:
    content = struct.pack("<4sHB", b":W&B", 0xBEE1, 0) + fragment(1, bytes_of(Record(run=RunRecord(run_id="r7"))))
    room = 32768 - len(content) - 7 - 7  # for the data of a record, if one more header is to end with the block
    (filling,) = {text for text in ("x" * num for num in range(room - 40, room)) if len(logged(text)) == room}
    content += fragment(1, logged(filling)) + fragment(2, b"")
    assert len(content) == 32768
    content += fragment(4, logged("what comes after"))
    path = tmp_path / "run-r7.wandb"
    path.write_bytes(content)
    run = read_wandb_file(path)
    assert (run.run_id, [row["text"] for row in run.history]) == ("r7", [filling, "what comes after"])


def test_only_finite_numbers_are_numbers() -> None:
    assert numbers({"a": 1, "b": 0.5, "c": float("nan"), "d": float("inf"), "e": "1", "f": True}) == {
        "a": 1.0,
        "b": 0.5,
    }


def test_file_that_was_cut_short_is_an_unfinished_run(folder: Path, tmp_path: Path) -> None:
    (source,) = folder.glob("run-*.wandb")
    content = source.read_bytes()
    assert len(content) > 3 * 32768
    for num_bytes in (len(content) - 40, 70_000, 40_000):
        short = tmp_path / "run-abc123.wandb"
        short.write_bytes(content[:num_bytes])
        run = read_wandb_file(short)
        assert run.run_id == "abc123"
        assert not run.finished
        assert len(run.history) <= NUM_STEPS + 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:], "checksum does not fit"),
        (lambda content: b"PK" + content[2:], "no W&B file of the version"),
        (lambda content: content[:6] + b"\x09" + content[7:], "no W&B file of the version"),
        (lambda content: content[:7], "holds no W&B run"),
        (lambda content: b"", "no W&B file of the version"),
    ],
)
def test_damaged_file_is_refused_by_name(folder: Path, tmp_path: Path, damage, message: str) -> None:
    (source,) = folder.glob("run-*.wandb")
    path = tmp_path / "run-x.wandb"
    path.write_bytes(damage(source.read_bytes()))
    with pytest.raises(ArtifactError, match=message) as refused:
        read_wandb_file(path)
    assert str(path) in str(refused.value)


def test_folder_of_two_runs_or_none_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds 0 files"):
        read_wandb_folder(tmp_path)
    (source,) = folder.glob("run-*.wandb")
    for name in ("run-a.wandb", "run-b.wandb"):
        shutil.copy(source, tmp_path / name)
    with pytest.raises(ArtifactError, match="holds 2 files"):
        read_wandb_folder(tmp_path)
