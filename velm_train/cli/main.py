"""The entry point: words in, exit status out; Hydra runs the job once the configuration has been checked."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from velm_train.cli.compose import (
    CONFIG_NAME,
    composed_run_folder,
    conf_dir,
    load_config,
    set_offline_environment,
    split_arguments,
    typed,
)
from velm_train.cli.launch.look_after import LOOKED_AFTER, look_after
from velm_train.cli.launch.sweep import run_sweep
from velm_train.cli.plugins import register_plugins
from velm_train.cli.ranks import num_processes, rank_of_process, words_of_rank
from velm_train.cli.supervisor import end_with_supervisor, hand_in_fault, print_fault, supervise
from velm_train.config import Config
from velm_train.core.errors import ConfigError, ResourceError, VelmError
from velm_train.core.interrupts import STOP_SIGNALS, Preempted, preemption_raised

EXIT_USER_ERROR = 2
EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
EXIT_INTERRUPTED = 130
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_OF_SWEEPS = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep.", "hparams_search")

logger = logging.getLogger(__name__)


def _fail(error: VelmError) -> NoReturn:
    """Prints one line, or has the supervisor print it, and leaves with exit status 2."""
    if not hand_in_fault(type(error).__name__, str(error)):
        print_fault(type(error).__name__, str(error))
    sys.exit(EXIT_USER_ERROR)


@contextmanager
def failing_in_one_line() -> Iterator[None]:
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
    except Preempted as signal_name:
        print(f"\n{signal_name}: finished work is kept; the same command continues from there", file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)
    except KeyboardInterrupt:
        print("\ninterrupted: finished work is kept; the same command continues from there", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raises Ctrl-C, or what preemption raises, at the end of a `with` block if something within has swallowed it.

    While libraries are imported it may fall into a callback of the interpreter or a broad `except`, where it is lost.
    """
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is note:  # and not ignored since
                signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt if signal.SIGINT in arrived else Preempted(arrived[0])


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
    with failing_in_one_line():
        with interrupts_kept():
            from velm_train.cli.tasks import run_task

        try:
            config = typed(composed)
            rank = rank_of_process(config)
            if rank is None:
                raise ConfigError(
                    f"trainer.devices={num_processes(config)} inside a sweep needs a process for each job; leave "
                    "hydra/launcher as it is"
                )
            run_task(config, run_folder=Path(HydraConfig.get().runtime.output_dir), rank=rank)
        except VelmError as error:
            logger.error("%s: %s", type(error).__name__, error)
            raise


def _refuse_words_of_sweeps(words: Sequence[str]) -> None:
    """Refuses a launcher, a sweeper or a search without --multirun: the run would be done here, at once and alone.

    Raises:
        ConfigError: naming the word.
    """
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if key.startswith(_OF_SWEEPS):
            raise ConfigError(f"{key} is for jobs of a launcher, one or many; add --multirun, or leave it out")


def _take_place(config: Config, overrides: Sequence[str]) -> None:
    """Starts and watches the processes of a run of several, or makes this one of them; nothing for one alone.

    Raises:
        ConfigError: if the processes there are do not fit the settings.
    """
    rank = rank_of_process(config)
    if rank is None:
        folder = Path(composed_run_folder(overrides))
        sys.exit(supervise(sys.argv[1:], run_folder=folder, num_processes=num_processes(config)))
    if rank.world_size > 1:
        end_with_supervisor()
        sys.argv += words_of_rank(config, overrides, composed_folder=composed_run_folder(overrides), rank=rank)


def main() -> None:
    """Checks the command line, then runs the task; exit status 2 for anything the user can mend."""
    set_offline_environment()
    flags, overrides = split_arguments(sys.argv[1:])
    asks_hydra = bool({"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version"} & set(flags))
    sweeps = bool({"--multirun", "-m"} & set(flags))
    register_plugins()
    with failing_in_one_line(), preemption_raised():
        if sweeps and {"--cfg", "-c", "--info", "-i"} & set(flags):
            raise ConfigError("--multirun cannot be combined with --cfg or --info, which show the settings of one run")
        if sweeps and not asks_hydra:
            sys.exit(run_sweep(overrides))
        if not asks_hydra and not sweeps:
            _refuse_words_of_sweeps(overrides)
            config = load_config(overrides)
            if config.task.name in LOOKED_AFTER:
                sys.exit(look_after(config))
            if config.task.name in {"fetch", "doctor", "export"}:
                with interrupts_kept():
                    from velm_train.cli.tasks import run_task

                run_task(config, run_folder=None)
                return
            _check_writable(config.paths.outputs)
            _take_place(config, overrides)
        _job()
