"""A second run computes nothing that is known, and says so."""

import csv
from collections import Counter
from pathlib import Path

STAGES = {
    "textures": 1,
    "detectors": 3,
    "detections": 3,
    "audit": 1,
    "gates": 2,
    "instructions": 1,
    "features": 5,
    "alignment": 1,
    "adapters": 1,
    "predictions": 7,
}
"""Artefacts of one run: three categories, two alphas, four rows and three wordings that ask a language model."""


def finished(artifacts: Path) -> set[str]:
    return {path.parent.relative_to(artifacts).as_posix() for path in artifacts.glob("*/*/artifact.json")}


def by_stage(artifacts: set[str]) -> dict[str, int]:
    return dict(Counter(name.split("/")[0] for name in artifacts))


def test_first_run_makes_every_stage(road) -> None:
    assert "reused" not in road.shown


def test_second_run_reuses_every_stage_and_says_so(road, run_again) -> None:
    before = finished(road.artifacts)
    second = run_again()
    assert finished(road.artifacts) == before
    said = {word for word in second.shown.split() if word in before}
    assert by_stage(said) == STAGES
    assert second.shown.count(": reused ") == sum(STAGES.values())
    assert second.predictions == road.predictions
    assert second.results.scoreboard == road.results.scoreboard
    assert (second.folder / "report.html").is_file()
    reused = {stage.stage for stage in second.results.manifest.stages if stage.reused}
    assert {"read data", "detect", "calibrate gates", "encode views", "align", "tune", "ask the tuned model"} <= reused
    assert not any(stage.reused for stage in road.results.manifest.stages)
    for path in sorted((road.folder / "adapter").iterdir()):
        assert (second.folder / "adapter" / path.name).read_bytes() == path.read_bytes()


def test_other_rank_trains_the_adapter_again_and_nothing_before_it(road, run_again) -> None:
    before = finished(road.artifacts)
    second = run_again("task=train", "lora.r=4", "trainer.max_steps=2", "callbacks.log_every=2")
    (new,) = finished(road.artifacts) - before
    assert new.startswith("adapters/")
    for stage in ("textures", "detectors", "detections", "gates", "instructions", "features", "alignment"):
        assert f"reused {stage}/" in second.shown, stage
    with (second.folder / "csv" / "metrics.csv").open(newline="") as stream:
        assert [row["step"] for row in csv.DictReader(stream)] == ["2"]  # log_every=2


def test_name_and_output_folder_are_no_part_of_what_is_known(road, run_again) -> None:
    before = finished(road.artifacts)
    run_again("task=instruct", "name=other")
    assert finished(road.artifacts) == before


def test_other_seed_of_the_run_keeps_the_pictures(road, run_again) -> None:
    second = run_again("task=detect", "seed=11")
    assert "reused textures/" in second.shown
    assert "reused detectors/" not in second.shown


def test_oracle_marks_every_row_and_look_twice_can_be_off(run_again) -> None:
    marked = run_again(
        "gate.policy=oracle",
        "look_twice=off",
        "alignment.max_steps=0",
        "trainer.max_steps=1",
        "evaluation.baselines=[look_twice_off]",
        "logger=none",
    )
    assert {row.gate_policy for row in marked.predictions} == {"oracle"}
    assert all(row.pred_label == (row.gt_defect_type != "good") for row in marked.predictions)
    assert "Gate policy is 'oracle'" in marked.shown
    assert "Gate policy is &#39;oracle&#39;" in (marked.folder / "report.html").read_text()
    assert not (marked.folder / "adapter" / "look_twice.safetensors").exists()
    assert not (marked.folder / "wandb").exists()
    assert [row.name for row in marked.results.scoreboard.rows][:2] == ["velm_train", "perfect gate + majority type"]
