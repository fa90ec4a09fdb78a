"""task=compare on run folders as a run leaves them: what is found, refused, tested, aggregated and written."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wandb
from omegaconf import OmegaConf

from velm_train.cli.compare import run_label, short_names
from velm_train.cli.compose import load_config
from velm_train.cli.tasks import run_task
from velm_train.config import Config
from velm_train.config.compare import CompareConfig
from velm_train.core.comparison import ALL_IMAGES, Comparison
from velm_train.core.errors import ArtifactError, ConfigError
from velm_train.reporting.compare_file import read_comparison
from velm_train.reporting.compare_wandb import WandbRun, read_wandb_folder


@pytest.fixture(scope="module")
def settings() -> Config:
    """Settings of a comparison without W&B."""
    return load_config(["task=compare", "runs=[a,b]", "logger=none", "threads=0", "evaluation.bootstrap=100"])


@pytest.fixture
def compare(tmp_path: Path, settings: Config) -> Callable[..., Comparison]:
    def run(*folders: Path, pairs: str = "all") -> Comparison:
        paths = replace(settings.paths, artifacts=str(tmp_path / "art"))
        config = replace(settings, runs=list(map(str, folders)), paths=paths, compare=CompareConfig(pairs=pairs))
        run_task(config, run_folder=tmp_path / "comparison")
        return read_comparison(tmp_path / "comparison" / "comparison.json")

    return run


def test_tests_settings_costs_and_pages_of_two_runs(finished, compare, tmp_path: Path, capsys) -> None:
    found = compare(finished("a", "lora.r=8"), finished("b", "lora.r=4", num_wrong=9))
    assert [(run.label, run.seed, run.num_images) for run in found.runs] == [("A", 0, 48), ("B", 0, 48)]
    assert [one.key for one in found.differences] == ["lora.r"]
    assert found.differences[0].values == ("8", "4")
    assert found.num_equal > 100
    (pair,) = found.pairs
    assert pair.match.is_complete
    test = pair.test(ALL_IMAGES)
    assert (test.paired.num_only_first_right, test.paired.num_only_other_right) == (9, 0)
    assert test.paired.mcnemar_p_value == pytest.approx(2 / 2**9)
    assert found.runs[0].cost.peak_memory_bytes == 3_000_000_000
    assert found.runs[0].cost.seconds_per_image["detect"] == pytest.approx(0.1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "A is right more often than B" in shown
    page = (tmp_path / "comparison" / "comparison.html").read_text()
    assert "lora.r" in page
    assert not any(word in page for word in ("<script", "http://", "https://"))
    assert "| A, B | all images | 48 |" in (tmp_path / "comparison" / "comparison.md").read_text()


def test_figures_are_those_of_the_runs_themselves(finished, compare) -> None:
    found = compare(finished("a"), finished("b", num_wrong=4))
    assert found.runs[0].scores["system/end_to_end_balanced_recall"].value == 1.0
    assert found.runs[1].scores["system/end_to_end_balanced_recall"].value == pytest.approx(28 / 32)
    assert found.runs[1].scores["system/normal_recall"].value == 1.0


def test_copy_of_a_run_differs_in_nothing(finished, compare, tmp_path: Path) -> None:
    first = finished("a", num_wrong=5)
    shutil.copytree(first, tmp_path / "copy" / "a")
    found = compare(first, tmp_path / "copy" / "a")
    assert found.differences == ()
    test = found.pairs[0].test(ALL_IMAGES)
    assert (test.paired.difference.value, test.adjusted_p_value) == (0.0, 1.0)
    assert [run.name for run in found.runs] == short_names([first, tmp_path / "copy" / "a"])


def test_sweep_gives_its_finished_runs_and_names_the_others(finished, compare, tmp_path: Path) -> None:
    for seed, num_wrong in ((0, 2), (1, 5), (2, 4)):
        finished(f"sweep/{seed}", f"seed={seed}", num_wrong=num_wrong)
    finished("sweep/other", "lora.r=4")
    for name, task in (("stopped", "run"), ("detected", "detect")):
        (tmp_path / "sweep" / name).mkdir()
        (tmp_path / "sweep" / name / "config.yaml").write_text(f"task:\n  name: {task}\n")
    (tmp_path / "sweep" / "killed" / ".hydra").mkdir(parents=True)
    found = compare(tmp_path / "sweep")
    assert [Path(run.folder).name for run in found.runs] == ["0", "1", "2", "other"]
    reasons = {Path(one.folder).name: one.reason for one in found.skipped}
    assert reasons == {
        "stopped": "not finished: no results.json",
        "detected": "task=detect leaves no results to compare",
        "killed": "not finished: stopped before its settings were written",
    }
    (group,) = found.seed_groups
    assert (group.labels, group.seeds, group.repeats) == (("A", "B", "C"), (0, 1, 2), ())
    values = [1 - wrong / 32 for wrong in (2, 5, 4)]
    spread = group.figures["system/end_to_end_balanced_recall"]
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.std == pytest.approx(np.std(values, ddof=1))
    assert spread.n == 3


def test_second_run_of_a_seed_is_not_counted_twice(finished, compare) -> None:
    runs = [finished("a"), finished("b", num_wrong=8), finished("c", "seed=1", num_wrong=4)]
    found = compare(*runs)
    (group,) = found.seed_groups
    assert (group.labels, group.repeats) == (("A", "C"), ("B",))
    assert any("B: further runs of a seed" in notice for notice in found.notices)


def test_runs_with_other_splits_are_tested_on_the_images_of_both(finished, compare) -> None:
    found = compare(finished("a"), finished("b", skip=12), finished("c", contents="other-"))
    first, second, third = found.pairs
    assert (first.match.num_shared, first.match.num_only_first, first.match.num_only_other) == (36, 12, 0)
    assert first.test(ALL_IMAGES).num_images == 36
    assert (second.match.num_changed, second.tests) == (48, ())
    assert (third.match.num_changed, third.match.num_only_other, third.tests) == (36, 12, ())
    assert any("B against A: on the 36 images that both tested alone" in notice for notice in found.notices)
    assert any("48 of the same name but another content" in notice for notice in found.notices)


def test_only_pairs_with_the_first_run_on_request(finished, compare) -> None:
    folders = [finished(name) for name in "abc"]
    assert len(compare(*folders).pairs) == 3
    assert len(compare(*folders, pairs="first").pairs) == 2


def test_unreadable_split_is_said_and_only_equal_splits_are_tested(finished, compare) -> None:
    same, other = [finished("a"), finished("b")], finished("c", contents="other-")
    for folder in (*same, other):
        (folder / "split.json").unlink()
    found = compare(*same, other)
    assert [bool(pair.tests) for pair in found.pairs] == [True, False, False]
    assert any("split.json cannot be read" in notice for notice in found.notices)


def test_older_results_are_made_again_from_the_rows(finished, compare) -> None:
    first, older = finished("a", num_wrong=3), finished("b", num_wrong=3)
    body = json.loads((older / "results.json").read_text())
    old_body = {"schema_version": 1, "scoreboard": body["scoreboard"], "manifest": body["manifest"]}
    (older / "results.json").write_text(json.dumps(old_body))
    found = compare(first, older)
    assert found.runs[0].scores == found.runs[1].scores
    assert any(notice.startswith("B: results.json is of an older version") for notice in found.notices)


@pytest.mark.parametrize(
    ("field", "value"), [("label_sets", ["nut"]), ("label_sets", {"nut": 3}), ("rows", []), ("rows", None)]
)
def test_older_results_with_a_wrong_value_are_called_damaged(finished, compare, field, value) -> None:
    first, older = finished("a"), finished("b")
    body = json.loads((older / "results.json").read_text())
    board = body["scoreboard"] | {field: value}
    old_body = {"schema_version": 2, "scoreboard": board, "manifest": body["manifest"]}
    (older / "results.json").write_text(json.dumps(old_body))
    with pytest.raises(ArtifactError, match=r"results\.json is damaged: it is not as version 2 has it; leave the run"):
        compare(first, older)


def read_when_written(folder: Path) -> WandbRun:
    """Reads a run's folder; W&B's own process may still be writing when the run is said to be finished."""
    for _ in range(100):
        with contextlib.suppress(ArtifactError):
            run = read_wandb_folder(folder)
            if run.finished:
                return run
        time.sleep(0.1)
    return read_wandb_folder(folder)


def test_tables_reach_wandb_offline_and_a_wandb_folder_can_be_compared(finished, tmp_path: Path) -> None:
    first = finished("a", num_wrong=2)
    run = wandb.init(
        project="p",
        id="w1",
        dir=tmp_path / "elsewhere",
        mode="offline",
        config=OmegaConf.to_container(OmegaConf.load(first / "config.yaml"))
        | {"seed": 7, "git": {"commit": "ab"}, "hashes": {"split": "cd"}, "packages": {"torch": "2"}},
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True),
    )
    run.log({"loss/total": 3.0, "trainer/global_step": 1})
    run.log({"loss/total": 1.5, "trainer/global_step": 2})
    wandb.log({"confusion": wandb.plot.confusion_matrix(y_true=[0, 1], preds=[0, 1], class_names=["a", "b"])})
    run.log({"system/end_to_end_balanced_recall/seen": 0.75, "gate/image_auroc": 0.5})
    run.finish()
    (wandb_folder,) = (tmp_path / "elsewhere" / "wandb").glob("offline-run-*")
    place = tmp_path / "comparison"
    words = ["task=compare", f"runs=[{first},{tmp_path / 'elsewhere'}]", "threads=0", "evaluation.bootstrap=100"]
    run_task(load_config(words), run_folder=place)
    found = read_comparison(place / "comparison.json")
    other = found.runs[1]
    assert (other.source, other.seed, Path(other.folder)) == ("W&B folder", 7, wandb_folder)
    assert other.scores["gate/image_auroc"].value == 0.5
    assert [(point.step, point.loss) for point in other.curve] == [(1, 3.0), (2, 1.5)]
    assert [one.key for one in found.differences] == ["seed"], "and nothing that a run adds to its settings for W&B"
    assert found.pairs == ()
    assert any("holds no predictions" in notice for notice in found.notices)
    assert not any("different machines" in notice for notice in found.notices), "W&B does not say which machine it was"
    (logged,) = (place / "wandb").glob("offline-run-*")
    assert read_when_written(logged).settings["task"]["name"] == "compare"
    (table,) = logged.glob("files/media/table/comparison/runs_*.table.json")
    body = json.loads(table.read_text())
    row = dict(zip(body["columns"], body["data"][0], strict=True))
    assert row["run"] == "A"
    assert row["system/end_to_end_balanced_recall"] == pytest.approx(30 / 32)


def test_rows_of_another_run_are_noticed(finished, compare, tmp_path: Path) -> None:
    first, other = finished("a"), finished("b", num_wrong=6)
    shutil.copy(first / "predictions.jsonl", other / "predictions.jsonl")
    with pytest.raises(ArtifactError, match="files are not of one run"):
        compare(first, other)


def test_runs_belong_to_compare_alone() -> None:
    with pytest.raises(ConfigError, match=r"runs=\[\] is not possible"):
        load_config(["task=compare"])
    with pytest.raises(ConfigError, match="allowed: \\[\\] unless task=compare"):
        load_config(["runs=[a,b]"])
    with pytest.raises(ConfigError, match=r"compare\.pairs=some"):
        load_config(["task=compare", "runs=[a,b]", "compare.pairs=some"])


def test_labels_run_through_the_alphabet() -> None:
    assert [run_label(i) for i in (0, 25, 26, 27, 51, 52, 701, 702)] == ["A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"]


def test_names_are_the_shortest_ends_that_differ() -> None:
    assert short_names([Path("/x/a/1"), Path("/x/b/1")]) == ["a/1", "b/1"]
    assert short_names([Path("/x/a/1"), Path("/y/a/1")]) == ["x/a/1", "y/a/1"]
