"""From words to exit status: what the user can mend is one line and status 2, an interrupt is one line and 130."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from velm_train.cli import main as entry
from velm_train.cli import tasks
from velm_train.core.errors import AssetError
from velm_train.core.interrupts import PREEMPTION_SIGNALS, STOP_SIGNALS, Preempted, preemption_raised

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[int, str]]:
    """Returns a function that runs the entry point and gives exit status and stderr."""

    def run(*words: str, error: BaseException | None = None) -> tuple[int, str]:
        def raise_it(*arguments: object, **named: object) -> None:
            assert error is not None, "the task began"
            raise error

        monkeypatch.setattr(tasks, "run_task", raise_it)
        monkeypatch.setattr(sys, "argv", ["velm_train", *words])
        with pytest.raises(SystemExit) as caught:
            entry.main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, capsys.readouterr().err

    return run


def one_line(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line]
    return line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lora.rank=8"], "velm_train: ConfigError: unknown setting 'lora.rank'"),
        (["gate.alpha=0"], "velm_train: ConfigError: gate.alpha=0.0 is not possible; allowed: above 0.0 and below 1.0"),
        (["experiment=textil"], "did you mean textile"),
        (["lora.r=8,16"], "add --multirun"),
        (["hydra/launcher=slurm_cpu"], "hydra/launcher is for jobs of a launcher, one or many; add --multirun"),
        (["lora.r=8", "hydra.launcher.partition=gpu"], "hydra.launcher.partition is for jobs of a launcher"),
        (["hparams_search=learning_rates"], "hparams_search is for jobs of a launcher"),
    ],
)
def test_bad_words_are_one_line_and_status_2(words: list[str], expected: str, fail_with) -> None:
    status, text = fail_with(*words)
    assert status == 2
    assert expected in one_line(text)


def test_words_are_read_without_what_models_are_made_of() -> None:
    heavy = ("transformers", "pytorch_lightning", "peft", "datasets", "scipy", "sklearn", "torchvision")
    code = f"import sys, velm_train.cli.main; print(*[name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"


def test_output_folder_below_a_file_is_refused_before_anything_is_loaded(tmp_path: Path, fail_with) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "runs"
    status, text = fail_with(f"paths.outputs={folder}")
    assert status == 2
    expected = (
        f"velm_train: ResourceError: paths.outputs={folder} cannot be made: Not a directory; choose another folder"
    )
    assert one_line(text) == expected


def test_error_of_a_task_is_one_line_however_many_it_has(fail_with) -> None:
    status, text = fail_with("task=fetch", error=AssetError("no network\nat all; run task=fetch elsewhere"))
    assert (status, one_line(text)) == (2, "velm_train: AssetError: no network at all; run task=fetch elsewhere")


def test_markup_in_a_message_is_shown_as_it_is(fail_with) -> None:
    _, text = fail_with("task=fetch", error=AssetError("install '.[dev]' and [bold]wait[/bold]"))
    assert one_line(text).endswith("install '.[dev]' and [bold]wait[/bold]")


def test_full_disk_is_one_line_with_the_remedy(fail_with) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "final.npy")
    status, text = fail_with("task=fetch", error=error)
    assert status == 2
    assert one_line(text).startswith("velm_train: ResourceError: disk full at final.npy: free some space")


def test_fault_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(tasks, "run_task", broken)
    monkeypatch.setattr(sys, "argv", ["velm_train", "task=fetch"])
    with pytest.raises(OSError, match="input/output error"):
        entry.main()


def test_interrupt_is_one_line_and_status_130(fail_with) -> None:
    status, text = fail_with("task=fetch", error=KeyboardInterrupt())
    assert status == 130
    assert one_line(text) == "interrupted: finished work is kept; the same command continues from there"


@pytest.fixture
def handlers_given_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers_given_back")
@pytest.mark.parametrize("number", PREEMPTION_SIGNALS, ids=lambda number: number.name)
def test_preemption_is_one_line_and_status_75(number: signal.Signals, monkeypatch, capsys) -> None:
    monkeypatch.setattr(tasks, "run_task", lambda *_, **named: signal.raise_signal(number))
    monkeypatch.setattr(sys, "argv", ["velm_train", "task=fetch"])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 75
    expected = f"{number.name}: finished work is kept; the same command continues from there"
    assert one_line(capsys.readouterr().err) == expected


@pytest.mark.usefixtures("handlers_given_back")
def test_preemption_that_an_import_swallows_comes_after_it() -> None:
    def imported() -> None:
        with preemption_raised(), entry.interrupts_kept(), contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Preempted, match="SIGTERM"):
        imported()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "velm_train", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.usefixtures("handlers_given_back")
def test_interrupt_that_an_import_swallows_comes_after_it() -> None:
    before = signal.default_int_handler
    signal.signal(signal.SIGINT, before)  # a background job has none
    reached = []

    def imported(*, interrupt: bool) -> None:
        with entry.interrupts_kept():
            with contextlib.suppress(KeyboardInterrupt):  # as a library might
                signal.raise_signal(signal.SIGINT if interrupt else signal.SIGURG)
            reached.append(interrupt)

    imported(interrupt=False)
    with pytest.raises(KeyboardInterrupt):
        imported(interrupt=True)
    assert reached == [False, True]
    assert signal.getsignal(signal.SIGINT) is before


def test_process_with_an_unknown_setting_ends_with_status_2_and_one_line() -> None:
    ended = run("lora.rank=8")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert one_line(ended.stderr).startswith("velm_train: ConfigError: unknown setting 'lora.rank'")


def test_process_whose_data_is_not_there_ends_with_status_2_one_line_and_a_log(tmp_path: Path) -> None:
    """The error is raised inside the job that Hydra runs."""
    ended = run(
        "dataset=mvtec_style",
        f"dataset.root={tmp_path / 'absent'}",
        f"paths.outputs={tmp_path / 'runs'}",
        f"paths.artifacts={tmp_path / 'artifacts'}",
    )
    assert ended.returncode == 2
    line = one_line(ended.stderr)
    assert line.startswith(
        f"velm_train: DataError: data root {tmp_path / 'absent'} does not exist; set dataset.root to"
    )
    (log,) = (tmp_path / "runs").glob("*/*/main.log")
    assert "DataError: data root" in log.read_text()
    assert "Traceback" not in ended.stdout + log.read_text()


def test_reader_that_has_gone_ends_the_program_quietly() -> None:
    command = f"{sys.executable} -m velm_train --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_every_launcher_and_sweeper() -> None:
    command = [sys.executable, "-m", "velm_train", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    options = {path.stem for kind in ("launcher", "sweeper") for path in (ROOT / "conf" / "hydra" / kind).iterdir()}
    assert [name for name in options - {"process"} if name not in shown] == []
    assert "--cfg hydra" in shown
