"""task=compare on the folder of a sweep: one row a setting, seeds pooled, and every job that gave no figure."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from velm_train.cli.compose import load_config
from velm_train.cli.launch.record import State, new_record, write_job
from velm_train.cli.launch.sweep_file import SWEEP_VERSION, SweepFile, SweptJob, write_sweep
from velm_train.cli.tasks import run_task
from velm_train.core.comparison import Comparison
from velm_train.core.study import VERSION, StudyFacts, StudyTrial, write_study
from velm_train.metrics.seeds import mean_interval
from velm_train.reporting.compare_file import read_comparison


@pytest.fixture
def job(tmp_path: Path, finished) -> Callable[..., None]:
    """Leaves the folder of a job as a launcher and its run do."""

    def leave(number: int, *words: str, state: State = "finished", num_wrong: int = 0, message: str = "") -> None:
        folder = tmp_path / "sweep" / str(number)
        if state == "finished":
            finished(f"sweep/{number}", *words, num_wrong=num_wrong)
        record = replace(new_record(number, words), state=state, message=message)
        write_job(folder, replace(record, exit_status=2 if state == "failed" else 0))

    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "multirun.yaml").write_text("")
    return leave


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., Comparison]:
    def run() -> Comparison:
        config = load_config(
            ["task=compare", f"runs=[{tmp_path / 'sweep'}]", "logger=none", "threads=0", "evaluation.bootstrap=100"]
        )
        run_task(config, run_folder=tmp_path / "comparison")
        return read_comparison(tmp_path / "comparison" / "comparison.json")

    return run


def recall(num_wrong: int) -> float:
    return 1 - num_wrong / 32


def test_seeds_of_a_setting_are_one_row_with_their_mean_and_interval(job, compare, tmp_path: Path, capsys) -> None:
    for number, (r, seed, num_wrong) in enumerate(
        [(8, 0, 2), (8, 1, 4), (8, 2, 6), (16, 0, 1), (16, 1, 1), (16, 2, 1)]
    ):
        job(number, f"lora.r={r}", f"seed={seed}", num_wrong=num_wrong)
    (sweep,) = compare().sweeps
    assert (sweep.name, sweep.objective, sweep.keys) == ("sweep", "all", ("lora.r",))
    assert [row.settings for row in sweep.rows] == [("16",), ("8",)]  # the best first
    best, other = sweep.rows
    assert best.values == (recall(1),) * 3
    assert (best.low, best.high) == (recall(1), recall(1))
    assert other.mean == pytest.approx(recall(4))
    reach = 4.302653 * (2 / 32) / 3**0.5  # the quantile of two degrees of freedom, the standard deviation, root of n
    assert (other.low, other.high) == pytest.approx((recall(4) - reach, recall(4) + reach))
    assert "Sweep sweep: 2 settings of lora.r" in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "comparison" / "comparison.html").read_text()
    assert 'aria-label="Objective by settings' in page
    assert page.count("<td>16</td>") == 1
    assert "| 16 |" in (tmp_path / "comparison" / "comparison.md").read_text()


def test_single_seed_has_the_interval_of_its_run_and_a_notice(job, compare) -> None:
    job(0, "lora.r=4", num_wrong=3)
    job(1, "lora.r=8", num_wrong=9)
    found = compare()
    (sweep,) = found.sweeps
    scores = found.run("A").scores["system/end_to_end_balanced_recall"]
    assert (sweep.rows[0].low, sweep.rows[0].high) == (scores.low, scores.high)
    assert any("2 of 2 settings were run with one seed" in notice for notice in found.notices)


def test_jobs_without_a_figure_are_listed_with_their_reason(job, compare, tmp_path: Path, capsys) -> None:
    job(0, "lora.r=4", num_wrong=1)
    job(1, "lora.r=8", num_wrong=2)
    job(2, "lora.r=16", state="failed", message="ResourceError: out of memory")
    job(3, "lora.r=32", state="pruned")
    job(4, "lora.r=64", state="preempted")
    swept = tuple(SweptJob(number=i, overrides=(), scheduler_job_id=None) for i in range(6))
    write_sweep(
        tmp_path / "sweep",
        SweepFile(version=SWEEP_VERSION, launcher="process", settings="{}", program=(), working_dir="", jobs=swept),
    )
    found = compare()
    (sweep,) = found.sweeps
    told = [(job.number, job.settings, job.state, job.reason) for job in sweep.unfinished]
    assert told == [
        (2, ("16",), "failed", "exit status 2: ResourceError: out of memory"),
        (3, ("32",), "pruned", ""),
        (4, ("64",), "preempted", ""),
        (5, ("",), "not started", ""),
    ]
    assert found.skipped == ()
    assert any("1 failed, 1 pruned, 1 preempted, 1 not started" in notice for notice in found.notices)
    assert "ResourceError: out of memory" in " ".join(capsys.readouterr().out.split())
    assert "ResourceError: out of memory" in (tmp_path / "comparison" / "comparison.html").read_text()


def test_study_is_drawn_in_its_order_and_by_importance(job, compare, tmp_path: Path) -> None:
    trials = []
    for number, num_wrong in enumerate([6, 2, 4]):
        job(number, f"lora.r={4 + number}", num_wrong=num_wrong)
        trials.append(
            StudyTrial(
                number=number,
                state="finished",
                value=recall(num_wrong),
                settings={"lora.r": str(4 + number)},
                reason="",
                last_step=None,
            )
        )
    facts = StudyFacts(
        version=VERSION,
        objective="all",
        sampler="tpe",
        pruner="none",
        seed=0,
        trials=tuple(trials),
        importances={"lora.r": 0.75, "seed": 0.25},
    )
    write_study(tmp_path / "sweep", facts)
    (sweep,) = compare().sweeps
    assert sweep.study == facts
    page = (tmp_path / "comparison" / "comparison.html").read_text()
    assert "the line is the highest so far, 93.8" in page
    assert "lora.r: 75 %" in page


def test_runs_beside_each_other_are_no_sweep(finished, compare, tmp_path: Path) -> None:
    finished("sweep/0", "lora.r=4")
    finished("sweep/1", "lora.r=8")
    assert compare().sweeps == ()


def test_one_value_has_no_interval_of_a_mean() -> None:
    assert mean_interval([0.5]) is None
