"""The entry point: words in, exit status out; Hydra runs the job once the configuration has been checked."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from velm_train.cli.compose import (
    CONFIG_NAME,
    check_words,
    conf_dir,
    load_config,
    set_offline_environment,
    split_arguments,
    typed,
)
from velm_train.core.errors import ResourceError, VelmError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

logger = logging.getLogger(__name__)


def _fail(error: VelmError) -> NoReturn:
    """Prints one line and leaves with exit status 2."""
    Console(stderr=True).print(f"[bold red]velm_train: {type(error).__name__}:[/bold red] ", end="", soft_wrap=True)
    print(str(error).replace("\n", " "), file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    """Turns what the user can mend, and Ctrl-C, into one line and an exit status; anything else is our own fault."""
    try:
        yield
    except VelmError as error:
        _fail(error)
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        place = f" at {error.filename}" if error.filename else ""
        _fail(ResourceError(f"disk full{place}: free some space or set paths.* to another disk; finished work is kept"))
    except KeyboardInterrupt:
        print("\ninterrupted: finished work is kept; the same command continues from there", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raises Ctrl-C at the end of a `with` block again if something within has swallowed it.

    While libraries are imported it may fall into a callback of the interpreter or a broad `except`, where it is lost.
    """
    arrived: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if arrived:
        raise KeyboardInterrupt


def _check_writable(folder: str) -> None:
    """Refuses an output folder that cannot be made or written before anything is loaded."""
    try:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - the text is the user's, kept as it is
    except OSError as error:
        raise ResourceError(
            f"paths.outputs={folder} cannot be made: {error.strerror}; choose another folder"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ResourceError(f"paths.outputs={folder} is not writable; choose another folder")


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)
def _job(composed: DictConfig) -> None:
    """Runs one task in the run folder that Hydra made."""
    with _failing_in_one_line():
        with interrupts_kept():
            from velm_train.cli.tasks import run_task

        try:
            run_task(typed(composed), run_folder=Path(HydraConfig.get().runtime.output_dir))
        except VelmError as error:
            logger.error("%s: %s", type(error).__name__, error)
            raise


def main() -> None:
    """Checks the command line, then runs the task; exit status 2 for anything the user can mend."""
    set_offline_environment()
    flags, overrides = split_arguments(sys.argv[1:])
    asks_hydra = bool({"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version"} & set(flags))
    sweeps = bool({"--multirun", "-m"} & set(flags))
    with _failing_in_one_line():
        if sweeps:
            check_words(overrides)
        if not asks_hydra and not sweeps:
            config = load_config(overrides)
            if config.task.name in {"fetch", "doctor", "export"}:
                with interrupts_kept():
                    from velm_train.cli.tasks import run_task

                run_task(config, run_folder=None)
                return
            _check_writable(config.paths.outputs)
        _job()
