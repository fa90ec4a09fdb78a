"""Several processes of one command: one end, one message, one signal for all."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from velm_train.cli import supervisor
from velm_train.cli.supervisor import supervise

PRELUDE = """
import json, os, signal, sys, time
from pathlib import Path
number, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
folder = Path(__file__).parent
def fault(kind, text):
    Path(os.environ["VELM_TRAIN_FAULT"]).write_text(json.dumps({"kind": kind, "text": text}))
    sys.exit(2)
def wait():
    (folder / f"waiting{number}").touch()
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    """Runs two processes of a program; returns the exit status of the whole."""

    def start(body: str) -> int:
        program = tmp_path / "program.py"
        program.write_text(PRELUDE + textwrap.dedent(body))
        return supervise(["word"], run_folder=tmp_path / "run", num_processes=2, program=(str(program),))

    return start


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(supervisor, "STOPPING_GRACE_SECONDS", 3.0)
    monkeypatch.setattr(supervisor, "_KILL_AFTER_SECONDS", 0.5)


def test_each_process_knows_its_place_and_the_run_folder(run, tmp_path) -> None:
    status = run("""
        own = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")]
        (folder / f"seen{number}").write_text(json.dumps([*own, os.environ["VELM_TRAIN_START"], *sys.argv[1:]]))
    """)
    assert status == 0
    first, second = ((tmp_path / f"seen{number}").read_text() for number in (0, 1))
    assert first.replace('["0", "0"', '["1", "1"') == second
    assert f"hydra.run.dir='{tmp_path / 'run'}'" in first
    assert '"word"' in first


def test_what_one_process_meets_is_told_once_and_ends_the_other(run, capfd) -> None:
    started = time.monotonic()
    assert run("fault('DataError', 'no pictures; add some') if number else wait()") == 2
    assert time.monotonic() - started < 20
    assert " ".join(capfd.readouterr().err.split()) == "velm_train: DataError: no pictures; add some"


def test_what_both_meet_is_told_once(run, capfd) -> None:
    assert run("fault('DataError', 'no pictures; add some')") == 2
    assert capfd.readouterr().err.count("no pictures") == 1


def test_the_trouble_of_the_first_process_with_losing_another_is_not_shown(run, capfd) -> None:
    status = run("""
        if number:
            fault('ResourceError', 'out of memory')
        while not list(folder.rglob("fault-*.json")):
            time.sleep(0.05)
        sys.exit('connection closed by peer')
    """)
    shown = capfd.readouterr().err
    assert status == 2
    assert "out of memory" in shown
    assert "connection closed" not in shown


def test_what_the_first_process_says_on_stderr_is_shown(run, capfd) -> None:
    assert run("print('a warning', file=sys.stderr) if not number else print('hidden', file=sys.stderr)") == 0
    assert capfd.readouterr().err == "a warning\n"


def test_a_fault_of_ours_is_shown_with_the_end_of_its_traceback(run, capfd) -> None:
    assert run("assert not number, 'five is right out'") == 1
    shown = capfd.readouterr().err
    assert "process 1 of 2 has ended with status 1" in shown
    assert "AssertionError: five is right out" in shown


def test_a_killed_process_ends_the_other(run, capfd) -> None:
    assert run("os.kill(os.getpid(), signal.SIGKILL) if number else wait()") == 1
    assert "process 1 of 2 has ended by SIGKILL" in capfd.readouterr().err


@pytest.mark.parametrize("status", [75, 130])
def test_a_stopped_run_says_so_by_its_exit_status(run, status) -> None:
    assert run(f"sys.exit({status} if number else 0)") == status


def test_a_process_that_ends_early_and_well_disturbs_nobody(run, tmp_path) -> None:
    assert run("time.sleep(0 if number else 1.5); (folder / 'done').touch()") == 0
    assert (tmp_path / "done").exists()


SUPERVISED = """
import sys
from pathlib import Path
from velm_train.cli.supervisor import supervise
sys.exit(supervise([], run_folder=Path(sys.argv[1]), num_processes=2, program=(sys.argv[2],)))
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[[str], subprocess.Popen[bytes]]:
    """Starts a supervisor of two processes that are waiting when it returns."""

    def begin(body: str) -> subprocess.Popen[bytes]:
        program, own = tmp_path / "program.py", tmp_path / "supervisor.py"
        program.write_text(PRELUDE + textwrap.dedent(body))
        own.write_text(SUPERVISED)
        process = subprocess.Popen([sys.executable, own, tmp_path / "run", program], start_new_session=True)
        while not all((tmp_path / f"waiting{number}").exists() for number in (0, 1)):
            assert process.poll() is None
            time.sleep(0.05)
        return process

    return begin


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_a_signal_reaches_every_process_once(name, start, tmp_path) -> None:
    """From a terminal Ctrl-C goes to the whole group; the second one would stop at once."""
    process = start(f"""
        got = []
        signal.signal(signal.{name}, lambda *_: got.append(1))
        (folder / f"waiting{{number}}").touch()
        until = time.monotonic() + 25
        while not got and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1)  # in which a second one would come
        (folder / f"got{{number}}").write_text(str(len(got)))
        sys.exit(75)
    """)
    os.killpg(process.pid, getattr(signal, name))
    assert process.wait(timeout=30) == 75
    assert [(tmp_path / f"got{number}").read_text() for number in (0, 1)] == ["1", "1"]


@pytest.mark.slow
def test_processes_that_do_not_know_a_preemption_signal_yet_are_preempted_all_the_same(start) -> None:
    process = start("wait()")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 75


@pytest.mark.slow
def test_no_process_outlives_its_supervisor(start, tmp_path) -> None:
    process = start("""
        from velm_train.cli.supervisor import end_with_supervisor
        end_with_supervisor()
        (folder / f"pid{number}").write_text(str(os.getpid()))
        wait()
    """)
    pids = [int((tmp_path / f"pid{number}").read_text()) for number in (0, 1)]
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
