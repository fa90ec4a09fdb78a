"""What a job wrote and what SLURM says become one state; the table shows the words that differ."""

import dataclasses
import json
from pathlib import Path

import pytest
from rich.console import Console

from velm_train.cli.launch import overview
from velm_train.cli.launch.overview import differing_words, overview_table, view_sweep, write_status
from velm_train.cli.launch.queue import Queue, QueuedJob
from velm_train.cli.launch.record import new_record, utc_now, write_job
from velm_train.cli.launch.sweep_file import SWEEP_VERSION, SweepFile, SweptJob, read_sweep, write_sweep
from velm_train.core.errors import ArtifactError


def sweep_of(launcher: str, *words: tuple[str, ...]) -> SweepFile:
    ids = [f"7_{i}" if launcher == "slurm" else None for i in range(len(words))]
    return SweepFile(
        version=SWEEP_VERSION,
        launcher=launcher,
        settings="{}",
        program=("p",),
        working_dir="w",
        jobs=tuple(SweptJob(number=i, overrides=one, scheduler_job_id=ids[i]) for i, one in enumerate(words)),
    )


@pytest.mark.parametrize(
    ("own", "queued", "shown"),
    [
        ("pending", "PENDING", ("pending", "Resources")),
        ("pending", "RUNNING", ("running", "")),
        ("running", "RUNNING", ("running", "")),
        ("running", "SIGNALING", ("running", "")),
        ("running", "COMPLETING", ("pending", "Resources")),
        ("running", "PENDING", ("pending", "Resources")),  # its node died
        ("finished", "COMPLETED", ("finished", "")),
        ("finished", None, ("finished", "")),
        ("failed", "FAILED", ("failed", "")),
        ("running", "TIMEOUT", ("timeout", "")),
        ("running", "OUT_OF_MEMORY", ("out_of_memory", "")),
        ("running", "CANCELLED", ("cancelled", "")),
        ("preempted", "CANCELLED", ("cancelled", "")),
        ("pending", "CANCELLED", ("cancelled", "")),
        ("preempted", "FAILED", ("preempted", "")),
        ("preempted", None, ("preempted", "")),
        ("running", None, ("lost", "SLURM does not know it")),
        ("pending", None, ("lost", "SLURM does not know it")),
    ],
)
def test_state_of_a_slurm_job(
    own: str, queued: str | None, shown: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_job(tmp_path / "0", dataclasses.replace(new_record(0, ()), state=own, started=utc_now()))
    known = {} if queued is None else {"7_0": QueuedJob(state=queued, node="n1", reason="Resources")}
    monkeypatch.setattr(overview, "ask_slurm", lambda ids: Queue(answered=True, jobs=known))
    (view,) = view_sweep(tmp_path, sweep_of("slurm", ()))
    assert (view.state, view.note) == shown


def test_slurm_sweep_is_shown_where_slurm_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_job(tmp_path / "0", dataclasses.replace(new_record(0, ()), state="running", started=utc_now()))
    monkeypatch.setattr(overview, "ask_slurm", lambda ids: Queue(answered=False, jobs={}))
    (view,) = view_sweep(tmp_path, sweep_of("slurm", ()))
    assert (view.state, view.note) == ("running", "SLURM cannot be asked on this machine")


def test_job_that_slurm_never_got_is_to_be_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while the jobs of a sweep are handed over, or after whoever did that was killed."""
    write_job(tmp_path / "0", new_record(0, ()))
    sweep = sweep_of("slurm", ())
    sweep = sweep.with_jobs((dataclasses.replace(sweep.jobs[0], scheduler_job_id=None),))
    monkeypatch.setattr(overview, "ask_slurm", lambda ids: pytest.fail("there is nothing to ask"))
    (view,) = view_sweep(tmp_path, sweep)
    assert (view.state, view.note) == ("not started", "it was not submitted")
    assert view.state in overview.TO_RESUBMIT


def test_processes_that_are_gone_and_jobs_that_never_began_are_told_apart(tmp_path: Path) -> None:
    write_job(tmp_path / "0", dataclasses.replace(new_record(0, ()), state="running", started=utc_now()))
    write_job(tmp_path / "1", new_record(1, ()))
    views = view_sweep(tmp_path, sweep_of("process", (), (), ()))
    assert [view.state for view in views] == ["lost", "not started", "not started"]


def test_last_loss_is_read_from_a_history_with_holes(tmp_path: Path) -> None:
    (tmp_path / "0" / "csv").mkdir(parents=True)
    (tmp_path / "0" / "csv" / "metrics.csv").write_text("loss/total,step,other\n7.5,1,\n6.25,2,\n,0,0.9\n")
    (view,) = view_sweep(tmp_path, sweep_of("process", ()))
    assert (view.metric, view.step) == ("loss 6.2500", 2)
    (tmp_path / "0" / "objective.json").write_text(
        json.dumps({"version": 1, "name": "unseen", "value": 0.875, "state": "finished"})
    )
    (view,) = view_sweep(tmp_path, sweep_of("process", ()))
    assert (view.metric, view.step) == ("unseen 0.8750", 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([("a=1", "b=2"), ("a=1", "b=3")], ["b=2", "b=3"]),
        ([("a=1", "b=2")], ["a=1 b=2"]),
        ([("a=1",), ("a=1",)], ["", ""]),
        ([("a=1", "++hydra.job.env_set.X=0"), ("a=2", "++hydra.job.env_set.X=1")], ["a=1", "a=2"]),
    ],
)
def test_only_words_that_differ_are_shown(words: list[tuple[str, ...]], expected: list[str]) -> None:
    assert differing_words(words) == expected


def test_table_shows_brackets_as_they_are_and_status_json_holds_the_same(tmp_path: Path, capsys) -> None:
    views = view_sweep(tmp_path, sweep_of("process", ("dataset.categories=[a,b]", "seed=0"), ("seed=0",)))
    Console(width=160).print(overview_table(views, title="t"))
    assert "dataset.categories=[a,b]" in capsys.readouterr().out
    write_status(tmp_path, views)
    rows = json.loads((tmp_path / "status.json").read_text())["jobs"]
    assert [(row["number"], row["state"], row["restarts"]) for row in rows] == [
        (0, "not started", 0),
        (1, "not started", 0),
    ]


def test_sweep_file_comes_back_as_written_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    sweep = sweep_of("slurm", ("a=1",), ("a=2",))
    write_sweep(tmp_path, sweep)
    assert read_sweep(tmp_path) == sweep
    again = dataclasses.replace(sweep.jobs[1], scheduler_job_id="9")
    assert [job.scheduler_job_id for job in sweep.with_jobs((again,)).jobs] == ["7_0", "9"]
    (tmp_path / "launcher.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"launcher\.json cannot be read"):
        read_sweep(tmp_path)
    assert read_sweep(tmp_path / "elsewhere") is None
