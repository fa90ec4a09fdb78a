"""task=detect ends with a gate card, whatever images there are; odd normals are named, never dropped."""

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from velm_train.cli.compose import load_config
from velm_train.cli.gate_notices import REHEARSAL, notices
from velm_train.cli.tasks import run_task
from velm_train.core.errors import GateError, VelmError
from velm_train.core.gate_card import GateReport
from velm_train.core.images import write_png
from velm_train.reporting.gate_page import read_gate_card

WORDS = (
    "protocol.max_train_normals=30",
    "protocol.max_test_per_type=9",
    "protocol.reference_normals=1",
    "gate.card_alphas=[0.1,0.01]",
)


def write_plates(folder: Path, names: Iterable[str], *, defective: bool = False) -> None:
    """Writes noisy stripes, with a bright spot if defective."""
    for name in names:
        rng = np.random.default_rng([*name.encode()])
        stripes = (np.arange(96) // 8 % 2 * 60 + 80)[None, :, None]
        image = np.clip(stripes + rng.normal(0, 8, (72, 96, 3)), 0, 255).astype(np.uint8)
        if defective:
            y, x = rng.integers(0, 40), rng.integers(0, 60)
            image[y : y + 24, x : x + 30] = rng.integers(0, 255, 3)
        write_png(image, folder / f"{name}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    write_plates(folder / "plate" / "train" / "good", [f"n{index}" for index in range(12)])
    write_plates(folder / "plate" / "test" / "good", [f"t{index}" for index in range(3)])
    return folder


@pytest.fixture
def detect(tmp_path: Path) -> Callable[..., GateReport]:
    def run(root: Path, *words: str) -> GateReport:
        folder = tmp_path / "run"
        head = ["debug=fast", "task=detect", "dataset=mvtec_style", f"dataset.root={root}", "threads=1"]
        run_task(load_config([*head, f"paths.artifacts={tmp_path / 'art'}", *WORDS, *words]), run_folder=folder)
        assert "<script" not in (folder / "gate_card.html").read_text()
        return read_gate_card(folder / "gate_card.json")

    return run


def test_normals_alone_give_a_card_and_it_says_what_is_not_known(root, detect, capsys) -> None:
    report = detect(root)
    (plate,) = report.categories
    assert (plate.num_calibration, plate.unit, plate.calibration) == (11, "images", "leave_one_out")
    assert [(one.alpha, one.reachable) for one in plate.rows] == [(0.01, False), (0.1, True), (0.2, True)]
    assert plate.row(0.2).false_alarms.n == 3
    assert plate.row(0.2).misses.value is None
    assert plate.drift is not None
    assert plate.suspects == ()
    assert report.notices == (
        REHEARSAL,
        "No defective test image in plate: nothing is known about missed defects there.",
    )
    shown = capsys.readouterr().out
    assert "gate card: " in shown
    assert "n = 99" in shown


def test_good_folder_alone_is_enough(tmp_path: Path, detect) -> None:
    write_plates(tmp_path / "only" / "plate" / "train" / "good", [f"n{index}" for index in range(12)])
    (plate,) = detect(tmp_path / "only").categories
    assert plate.row(0.2).false_alarms.n > 0


def test_defect_among_the_normals_is_named_and_kept(root, detect, caplog) -> None:
    write_plates(root / "plate" / "train" / "good", ["odd"], defective=True)
    with caplog.at_level(logging.WARNING):
        report = detect(root)
    (plate,) = report.categories
    (suspect,) = plate.suspects
    assert suspect.image_id.endswith("plate/train/good/odd.png")
    assert plate.image_threshold == pytest.approx(sorted(plate.scores("calibration", defective=False))[-2])
    assert suspect.anomaly_score == max(plate.scores("calibration", defective=False))
    assert any("odd.png" in notice and "run again" in notice for notice in report.notices)
    assert "odd.png looks like no other normal image of plate" in caplog.text


def test_views_of_one_part_count_as_one(root, detect) -> None:
    paths = [f"plate/train/good/n{index}.png" for index in range(12)]
    rows = [f"{path},part{index // 2}" for index, path in enumerate(paths)]
    tests = [f"plate/test/good/t{index}.png,tested" for index in range(3)]
    (root / "groups.csv").write_text("\n".join(["image,group", *rows, *tests]) + "\n")
    (plate,) = detect(root).categories
    assert plate.unit == "parts"
    assert plate.num_calibration < plate.num_calibration_images
    assert plate.row(0.2).false_alarms.n == 1
    assert "normal parts in" in plate.guarantee


def test_defects_are_counted_by_images(root, detect) -> None:
    write_plates(root / "plate" / "test" / "spot", ["s0", "s1", "s2"], defective=True)
    report = detect(root)
    (plate,) = report.categories
    assert (plate.row(0.2).misses.k, plate.row(0.2).misses.n) == (0, 2)  # one of three is learned from
    assert plate.image_auroc.value == 1.0
    assert report.notices == (REHEARSAL,)


def test_other_policy_is_told(root, detect) -> None:
    assert any("Gate policy is 'off'" in notice for notice in detect(root, "gate.policy=off").notices)


def test_alpha_out_of_reach_is_refused_by_name(root, detect) -> None:
    with pytest.raises(GateError, match=r"gate\.alpha=0\.01 cannot be reached in plate \(11 normal parts, floor 0\.08"):
        detect(root, "gate.alpha=0.01")


def test_one_normal_and_none_are_refused_in_one_line(tmp_path: Path, detect) -> None:
    write_plates(tmp_path / "one" / "plate" / "train" / "good", ["n0"])
    write_plates(tmp_path / "one" / "plate" / "test" / "good", ["t0"])
    with pytest.raises(VelmError) as caught:
        detect(tmp_path / "one", "protocol.reference_normals=0")
    assert "\n" not in str(caught.value)
    write_plates(tmp_path / "none" / "plate" / "test" / "good", ["t0", "t1"])
    with pytest.raises(VelmError, match="plate"):
        detect(tmp_path / "none")


def test_identical_normals_give_a_gate_that_flags_none_of_them(tmp_path: Path, detect) -> None:
    for split, number in (("train", 12), ("test", 3)):
        for index in range(number):
            image = np.full((72, 96, 3), 120, dtype=np.uint8)
            image[0, 0] = (index, number, 0)  # another file, the same look
            write_png(image, tmp_path / "same" / "plate" / split / "good" / f"{index}.png")
    (plate,) = detect(tmp_path / "same", "audit.near_duplicates=false").categories
    assert plate.row(0.2).false_alarms.k == 0
    assert json.dumps([image.anomaly_score for image in plate.images])


def test_no_category_needs_no_words() -> None:
    assert notices((), policy="detector", allowed=(), rehearsal=False) == []
