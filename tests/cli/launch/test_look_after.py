"""The newest sweep is found, a broken one is run on, and what is no sweep is refused."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from velm_train.cli.compose import load_config
from velm_train.cli.launch.job import make_job, own_program
from velm_train.cli.launch.look_after import look_after, newest_sweep, resubmit, show_status
from velm_train.cli.launch.pool import run_jobs
from velm_train.cli.launch.record import new_record, read_job, write_job
from velm_train.cli.launch.sweep_file import SWEEP_VERSION, SweepFile, SweptJob, write_sweep
from velm_train.core.errors import ConfigError, DataError


@pytest.fixture
def half_failed(tmp_path: Path, tiny_program: tuple[str, ...]) -> Path:
    """A sweep of two processes, the second of which failed."""
    words = (("steps=1",), ("steps=2", "fails_at=1"))
    folder = tmp_path / "runs" / "name" / "sweep"
    jobs = [make_job(i, one, sweep=folder, program=tiny_program, working_dir=tmp_path) for i, one in enumerate(words)]
    swept = tuple(SweptJob(number=i, overrides=one, scheduler_job_id=None) for i, one in enumerate(words))
    sweep = SweepFile(
        version=SWEEP_VERSION,
        launcher="process",
        settings=json.dumps({"max_parallel": 2}),
        program=tiny_program,
        working_dir=str(tmp_path),
        jobs=swept,
    )
    run_jobs(jobs, max_parallel=2, tell=lambda line: None)
    write_sweep(folder, sweep)
    return folder


def test_status_names_what_can_be_run_again(half_failed: Path, capsys) -> None:
    show_status(load_config(["task=status", f"paths.outputs={half_failed.parents[1]}"]), Console(width=250))
    shown = capsys.readouterr().out
    assert f"{half_failed}: 1 finished, 1 failed" in shown
    assert "something is broken" in shown
    assert f"task=resubmit sweep={half_failed} goes on with: 1" in shown
    assert [row["state"] for row in json.loads((half_failed / "status.json").read_text())["jobs"]] == [
        "finished",
        "failed",
    ]


def test_only_failed_jobs_are_run_again(half_failed: Path, capsys) -> None:
    config = load_config(["task=resubmit", f"sweep={half_failed}"])
    assert look_after(config) == 0
    records = [read_job(half_failed / str(i)) for i in range(2)]
    assert [(record.state, record.attempts) for record in records if record] == [("finished", 1), ("finished", 2)]
    capsys.readouterr()
    assert resubmit(config, Console(width=200)) == 0
    assert "no job has failed, nothing to run again" in capsys.readouterr().out


def test_job_whose_settings_are_impossible_is_not_run_again(half_failed: Path, capsys) -> None:
    """The words of both are no settings of this program, which only now is said to be the one that ran them."""
    path = half_failed / "launcher.json"
    body = json.loads(path.read_text())
    possible = body["jobs"][0] | {"overrides": ["task=doctor"]}
    path.write_text(json.dumps(body | {"program": [*own_program()], "jobs": [possible, body["jobs"][1]]}))
    for number, words in ((0, ("task=doctor",)), (1, ("steps=2", "fails_at=1"))):
        record = read_job(half_failed / str(number))
        write_job(half_failed / str(number), dataclasses.replace(record, state="failed", overrides=words))
    assert resubmit(load_config(["task=resubmit", f"sweep={half_failed}"]), Console(width=200)) == 1
    assert "job 1 is not possible: unknown setting 'steps'" in capsys.readouterr().out
    records = [read_job(half_failed / str(i)) for i in range(2)]
    assert [(record.state, record.attempts) for record in records if record] == [("finished", 2), ("failed", 1)]


def test_job_that_its_launcher_cannot_serve_is_not_run_again(tmp_path: Path, tiny_settings) -> None:
    """`task=resubmit` asks what `--multirun` asked: one core without a GPU is nothing for trainer=gpu."""
    write_job(tmp_path / "0", dataclasses.replace(new_record(0, ("trainer=gpu",)), state="failed", exit_status=2))
    sweep = SweepFile(
        version=SWEEP_VERSION,
        launcher="slurm",
        settings=json.dumps(dataclasses.asdict(tiny_settings)),
        program=own_program(),
        working_dir=str(tmp_path),
        jobs=(SweptJob(number=0, overrides=("trainer=gpu",), scheduler_job_id=None),),
    )
    write_sweep(tmp_path, sweep)
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.gpus_per_node=0 is not possible; allowed: 1 with"):
        resubmit(load_config(["task=resubmit", f"sweep={tmp_path}"]), Console(quiet=True))


def test_newest_sweep_is_the_one_touched_last(tmp_path: Path) -> None:
    for age, name in enumerate(("a/new", "a/old", "b/oldest")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "launcher.json").write_text("{}")
        os.utime(folder / "launcher.json", (1e9 - age, 1e9 - age))
    assert newest_sweep(tmp_path) == tmp_path / "a" / "new"


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not the folder of a sweep: it has no launcher\.json"):
        show_status(load_config(["task=status", f"sweep={tmp_path}"]), Console())
    with pytest.raises(DataError, match=r"no sweep lies below paths\.outputs="):
        newest_sweep(tmp_path)
    with pytest.raises(ConfigError, match=r"^task=resubmit needs the folder of a sweep"):
        resubmit(load_config(["task=resubmit"]), Console())
    with pytest.raises(ConfigError, match=r"sweep=x is not possible; allowed: null unless task=status"):
        load_config(["sweep=x"])


def test_settings_of_a_launcher_of_another_version_are_refused(half_failed: Path) -> None:
    path = half_failed / "launcher.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"max_parallel": 2, "colour": "red"}}))
    with pytest.raises(ConfigError, match=r"launcher\.json is of another version"):
        resubmit(load_config(["task=resubmit", f"sweep={half_failed}"]), Console(quiet=True))
    assert dataclasses.asdict(read_job(half_failed / "1"))["attempts"] == 1
