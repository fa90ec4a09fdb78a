"""The whole road in two processes leaves what one process leaves."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

FAST = ("debug=fast", "logger=none", "evaluation.language_checks=[]", "evaluation.baselines=[image_blind]")


def run(command: Callable[..., Any], folder: Path, words: Sequence[str]) -> Path:
    paths = (f"hydra.run.dir={folder / 'run'}", f"paths.artifacts={folder / 'artifacts'}")
    ended = command(*FAST, *words, *paths).end()
    assert ended.status == 0, ended.lines
    return folder


def adapter_of(folder: Path) -> Path:
    (adapter,) = (folder / "artifacts" / "adapters").iterdir()
    return adapter


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Rows of predictions.jsonl in their order, without what depends on the clock and on the key of the adapter."""
    lines = (folder / "run" / "predictions.jsonl").read_text().splitlines()[1:]
    return [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "hashes")} for line in lines]


def scores_of(folder: Path) -> Any:
    board = json.loads((folder / "run" / "results.json").read_text())["scoreboard"]
    return without_seconds(board)


def without_seconds(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: without_seconds(value) for name, value in node.items() if "second" not in name}
    return [without_seconds(value) for value in node] if isinstance(node, list) else node


def test_two_processes_leave_what_one_leaves(command, tmp_path) -> None:
    """Weights bit by bit, answers to the rounding of padding (questions lie in other batches)."""
    one = run(command, tmp_path / "one", ("trainer=cpu", "trainer.accumulate=2", "threads=1"))
    two = run(command, tmp_path / "two", ("trainer=ddp_sim",))
    for name in ("adapter_model", "projector", "look_twice"):
        first, second = (load_file(adapter_of(x) / "adapter" / f"{name}.safetensors") for x in (one, two))
        assert all(first[key].equal(second[key]) for key in first), name
    histories = [list(csv.DictReader((adapter_of(x) / "history.csv").open())) for x in (one, two)]
    for first, second in zip(*histories, strict=True):
        for name in ("loss/total", "gradient_norm", "lr/lora", "samples", "useful_tokens"):
            assert float(second[name]) == pytest.approx(float(first[name]), rel=1e-6), name
    pairs = list(zip(rows_of(one), rows_of(two), strict=True))
    assert pairs
    for first, second in pairs:
        likelihoods = first.pop("option_log_likelihoods"), second.pop("option_log_likelihoods")
        assert list(likelihoods[0]) == list(likelihoods[1])
        assert likelihoods[1] == pytest.approx(likelihoods[0], abs=1e-3)
        assert first == second
    assert (two / "run" / "report.html").is_file()
    assert not (two / "run" / ".ranks" / "1" / "report.html").exists()


def test_the_chosen_strategy_stands_in_a_table_with_all_that_come_into_question(command, tmp_path) -> None:
    """Two processes choose once; both have the machine's memory to share."""
    words = ("debug=fast", "task=train", "logger=none", "trainer=ddp_sim", "trainer.strategy=auto")
    paths = (f"hydra.run.dir={tmp_path / 'run'}", f"paths.artifacts={tmp_path / 'artifacts'}")
    ended = command(*words, *paths).end()
    assert ended.status == 0, ended.lines
    assert ended.shown.count("trainer=auto: memory on each of 2 devices of") == 1
    rows = re.findall(r"│ (\w+) │(?: [\d.]+ [MG]B │){4} ([^│]+) │", ended.shown)
    verdicts = dict(rows)
    assert len(rows) == len(verdicts) == 7
    assert (verdicts["single"], verdicts["ddp"]) == ("several devices", "chosen")
    absent = find_spec("deepspeed") is None
    for name in ("deepspeed_2", "fsdp2", "deepspeed_2_offload", "deepspeed_3", "deepspeed_3_offload"):
        assert (verdicts[name] == "fits") != (absent and "deepspeed" in name), name


def test_what_both_processes_meet_is_told_once(command, tmp_path) -> None:
    root = tmp_path / "nowhere"
    ended = command(
        "trainer=ddp_sim", "dataset=mvtec_ad", f"dataset.root={root}", f"hydra.run.dir={tmp_path / 'run'}"
    ).end()
    assert ended.status == 2
    assert len(ended.lines) == 1, ended.lines
    assert str(root) in ended.lines[0]
