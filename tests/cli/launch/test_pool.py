"""Processes of this machine: side by side, each with its own end; stopped by a signal they save and can go on."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from velm_train.cli.launch.child import RunningJob, is_held, last_line
from velm_train.cli.launch.job import Job, make_job, own_program
from velm_train.cli.launch.pool import run_jobs
from velm_train.cli.launch.record import read_job


@pytest.fixture
def tiny_jobs(tmp_path: Path, tiny_program: tuple[str, ...]) -> Callable[..., list[Job]]:
    def make(*words: list[str]) -> list[Job]:
        return [
            make_job(i, one, sweep=tmp_path, program=tiny_program, working_dir=tmp_path) for i, one in enumerate(words)
        ]

    return make


def test_failed_job_ends_none_of_the_others(tiny_jobs, tmp_path: Path) -> None:
    jobs = tiny_jobs(["steps=1"], ["steps=3", "fails_at=2", "status=2"], ["steps=2"])
    lines: list[str] = []
    records, stopped = run_jobs(jobs, max_parallel=2, tell=lines.append)
    assert stopped is None
    assert [records[i].state for i in range(3)] == ["finished", "failed", "finished"]
    assert (records[1].exit_status, records[1].message) == (2, "something is broken")
    assert read_job(tmp_path / "1") == records[1]
    assert lines[0] == "job 0: steps=1"
    assert any(
        line.startswith("job 1 failed with exit status 2") and line.endswith(": something is broken") for line in lines
    )


@pytest.mark.parametrize(("max_parallel", "most"), [(1, 1), (2, 2)])
def test_no_more_jobs_run_at_a_time_than_allowed(max_parallel: int, most: int, tiny_jobs, tmp_path: Path) -> None:
    jobs = tiny_jobs(["steps=4"], ["steps=4"], ["steps=4"])
    seen: list[int] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            seen.append(sum(is_held(tmp_path / str(i)) for i in range(3)))
            time.sleep(0.05)

    watcher = threading.Thread(target=look)
    watcher.start()
    records, _ = run_jobs(jobs, max_parallel=max_parallel, tell=lambda line: None)
    ended.set()
    watcher.join()
    assert max(seen) == most
    assert all(record.state == "finished" for record in records.values())


def test_signal_reaches_what_runs_and_the_next_start_goes_on(tiny_jobs, tmp_path: Path) -> None:
    jobs = tiny_jobs(["steps=3", "holds_at=1"], ["steps=1"])

    def press() -> None:
        while not (tmp_path / "0" / "step").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    records, stopped = run_jobs(jobs, max_parallel=1, tell=lambda line: None)
    presser.join()
    assert stopped == signal.SIGINT
    assert list(records) == [0]
    assert (records[0].state, records[0].exit_status) == ("preempted", 130)
    records, stopped = run_jobs(jobs, max_parallel=1, tell=lambda line: None)
    assert stopped is None
    assert [records[i].state for i in range(2)] == ["finished", "finished"]
    assert records[0].attempts == 2
    first = int((tmp_path / "0" / "saved.json").read_text().split()[-1].rstrip("}"))
    assert f"rank 0 starts at step {first}" in (tmp_path / "0" / "job.log").read_text()


def test_job_that_an_earlier_launcher_left_running_is_not_started_twice(tiny_jobs) -> None:
    (job,) = tiny_jobs(["steps=3", "holds_at=1"])
    left_behind = RunningJob(job)
    lines: list[str] = []
    records, _ = run_jobs([job], max_parallel=1, tell=lines.append)
    assert records == {}
    assert "is being run by another process; wait for its end, or end it" in lines[0]
    left_behind.send(signal.SIGTERM)
    while left_behind.poll() is None:
        time.sleep(0.05)
    assert left_behind.finish().state == "preempted"


def test_command_that_cannot_be_started_is_for_the_user_to_mend(tmp_path: Path) -> None:
    job = make_job(0, (), sweep=tmp_path, program=("no-such-container", "exec"), working_dir=tmp_path)
    records, _ = run_jobs([job], max_parallel=1, tell=lambda line: None)
    assert (records[0].state, records[0].exit_status) == ("failed", 2)
    assert records[0].message == "cannot start no-such-container: No such file or directory"


def test_job_killed_from_outside_has_failed_and_says_so(tmp_path: Path) -> None:
    job = make_job(0, (), sweep=tmp_path, program=("sh", "-c", "kill -KILL $$", "x"), working_dir=tmp_path)
    records, _ = run_jobs([job], max_parallel=1, tell=lambda line: None)
    assert (records[0].state, records[0].exit_status) == ("failed", -9)
    assert records[0].message.startswith("killed by SIGKILL")


def test_folder_with_odd_characters_reaches_hydra_as_one_word(tmp_path: Path) -> None:
    job = make_job(2, ("a=1",), sweep=tmp_path / "it's, here=there", program=("p",), working_dir=tmp_path)
    assert job.command[-1] == f"hydra.run.dir='{tmp_path}/it\\'s, here=there/2'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n\n", "b"),
        ("", ""),
        ("50%\r100%\n", "100%"),
        ("\x1b[1mbold\x1b[0m\n", "bold"),
        ("ValueError: x\n\nSet the environment variable HYDRA_FULL_ERROR=1 for a trace.\n", "ValueError: x"),
    ],
)
def test_last_line_of_a_log(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    assert last_line(tmp_path / "log") == expected


def test_program_within_a_container_is_named_by_its_words() -> None:
    words = own_program(container="apptainer exec --bind '/a b' velm.sif", python="python", hydra_words=["hydra.x=1"])
    assert words == ("apptainer", "exec", "--bind", "/a b", "velm.sif", "python", "-m", "velm_train", "hydra.x=1")
    assert own_program() == (sys.executable, "-m", "velm_train")
