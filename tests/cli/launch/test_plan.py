"""Which jobs of a batch are run: not those that have finished, not the impossible, none of another sweep."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from velm_train.cli.launch.job import Job, make_job
from velm_train.cli.launch.plan import mark_back, mark_pending, mark_refused, plan_batch
from velm_train.cli.launch.record import new_record, read_job, write_job
from velm_train.core.errors import ConfigError


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    return [make_job(i, (f"seed={i}",), sweep=tmp_path, program=("p",), working_dir=tmp_path) for i in range(4)]


@pytest.fixture
def ended(jobs: list[Job]) -> Callable[[int, str], None]:
    def write(number: int, state: str) -> None:
        record = dataclasses.replace(new_record(number, jobs[number].overrides), state=state, attempts=1)
        write_job(jobs[number].folder, record)

    return write


def test_new_batch_is_run_whole(jobs: list[Job]) -> None:
    plan = plan_batch(jobs, problems={})
    assert (plan.run, plan.done, plan.refused) == (tuple(jobs), {}, {})


def test_finished_and_pruned_jobs_are_not_run_again_all_others_are(jobs: list[Job], ended) -> None:
    for number, state in enumerate(("finished", "pruned", "failed", "preempted")):
        ended(number, state)
    plan = plan_batch(jobs, problems={})
    assert [job.number for job in plan.run] == [2, 3]
    assert {number: record.state for number, record in plan.done.items()} == {0: "finished", 1: "pruned"}


def test_impossible_jobs_are_noted_as_failed_and_the_others_run(jobs: list[Job], tmp_path: Path) -> None:
    plan = plan_batch(jobs, problems={1: "seed=-1 is not possible"})
    assert [job.number for job in plan.run] == [0, 2, 3]
    mark_refused(tmp_path, plan.refused)
    record = read_job(tmp_path / "1")
    assert record is not None
    assert (record.state, record.exit_status, record.message, record.attempts) == (
        "failed",
        2,
        "seed=-1 is not possible",
        0,
    )


def test_batch_without_a_possible_job_is_refused(jobs: list[Job]) -> None:
    with pytest.raises(ConfigError, match=r"^bad value \(all 2 jobs are impossible; this is job 0\)$"):
        plan_batch(jobs[:2], problems={0: "bad value", 1: "worse"})
    with pytest.raises(ConfigError, match=r"^bad value$"):
        plan_batch(jobs[:1], problems={0: "bad value"})


def test_folder_of_another_sweep_is_refused_with_both_words(jobs: list[Job], ended) -> None:
    ended(0, "failed")
    other = dataclasses.replace(jobs[0], overrides=("seed=9",))
    with pytest.raises(ConfigError, match=r"another job \(seed=0\), not seed=9; choose another hydra\.sweep\.dir"):
        plan_batch([other], problems={})


def test_batch_that_nobody_took_leaves_what_was_there(jobs: list[Job], ended, tmp_path: Path) -> None:
    ended(0, "failed")
    before = mark_pending(jobs)
    assert [read_job(job.folder).state for job in jobs] == ["pending"] * 4
    mark_back(jobs, before)
    assert read_job(jobs[0].folder).state == "failed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0"]
