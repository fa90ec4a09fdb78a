"""A maker of finished run folders, with everything in them that a comparison reads, and task=score as a function."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from velm_train.cli.compose import load_config
from velm_train.cli.tasks import run_task
from velm_train.core.errors import VelmError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import Prediction
from velm_train.metrics.scoreboard import System, make_scoreboard
from velm_train.reporting.manifest import StageMeter, collect_manifest
from velm_train.reporting.predictions import write_predictions
from velm_train.reporting.results import Results, write_results

LABELS = {"nut": ("bent", "cut"), "tile": ("oil", "crack")}
GROUPS = {"nut": "seen", "tile": "unseen"}


def make_rows(*, num_wrong: int, skip: int = 0) -> list[Prediction]:
    """Returns rows of 48 images; of the 32 defects the first few of `num_wrong` get the other type's name."""
    rows = []
    for i in range(48):
        category = ("nut", "tile")[i % 2]
        first, second = LABELS[category]
        gt = (first, second, "good")[i // 2 % 3]
        defects_before = sum(j // 2 % 3 != 2 for j in range(i))
        swapped = {first: second, second: first, "good": "good"}
        rows.append(
            Prediction(
                image_id=f"set/{category}/{i:02d}.png",
                category=category,
                group=GROUPS[category],
                gt_defect_type=gt,
                anomaly_score=float(gt != "good") + i / 1000,
                p_value=0.5,
                pred_label=gt != "good",
                gate_policy="detector",
                option_log_likelihoods={} if gt == "good" else {"a": -0.1, "b": -2.0},
                pred_defect_type=swapped[gt] if gt != "good" and defects_before < num_wrong else gt,
                response="",
                region_boxes_xyxy=(),
                seconds={"detect": 0.1},
                hashes={},
            )
        )
    return rows[skip:]


@pytest.fixture(scope="session")
def shipped_settings() -> DictConfig:
    """The shipped configuration."""
    return OmegaConf.structured(load_config([]))


@pytest.fixture
def finished(tmp_path: Path, shipped_settings: DictConfig) -> Callable[..., Path]:
    """Leaves a run folder as task=run does."""

    def make(name: str, *words: str, num_wrong: int = 0, skip: int = 0, contents: str = "") -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        settings = OmegaConf.merge(shipped_settings, OmegaConf.from_dotlist([f"name={folder.name}", *words]))
        OmegaConf.save(settings, folder / "config.yaml")
        rows = make_rows(num_wrong=num_wrong, skip=skip)
        write_predictions(rows, folder / "predictions.jsonl")
        split = {
            "schema_version": 2,
            "entries": [{"image_id": row.image_id, "sha256": f"{contents}{row.image_id}"} for row in rows],
            "unknown_types": {},
        }
        (folder / "split.json").write_text(json.dumps(split | {"sha256": sha256_json(split)}))
        meter = StageMeter()
        meter.add("training", wall_seconds=12.0, peak_memory_bytes=3_000_000_000)
        manifest = collect_manifest(
            meter, seeds={}, hashes={"split": sha256_json(split)}, accelerators=(), project_folder=tmp_path
        )
        scoreboard = make_scoreboard(
            [System(name="velm_train", predictions=rows)], label_sets=LABELS, num_bootstrap=100, seed=0
        )
        write_results(Results(scoreboard=scoreboard, manifest=manifest), folder / "results.json")
        return folder

    return make


@pytest.fixture
def score(tmp_path: Path):
    def run(path: Path, *words: str) -> Path:
        folder = tmp_path / "run"
        config = load_config(["task=score", f"predictions='{path}'", "evaluation.bootstrap=100", *words])
        run_task(config, run_folder=folder)
        return folder

    return run


@pytest.fixture
def problem(score):
    def run(path: Path, *words: str) -> str:
        with pytest.raises(VelmError) as caught:
            score(path, *words)
        return str(caught.value)

    return run
