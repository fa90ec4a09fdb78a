"""Where a run is logged and a folder go in; the Lightning loggers of the run come out."""

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from velm_train.core.errors import ConfigError
from velm_train.core.scrubbing import Scrubber
from velm_train.training.wandb_logger import Cell, TrackedFiles, WandbRunFacts, WandbTracker
from velm_train.training.wandb_worker import WandbMode

__all__ = [
    "Cell",
    "Logger",
    "LoggerChoice",
    "TrackedFiles",
    "WandbRunFacts",
    "WandbTracker",
    "finish_loggers",
    "log_table",
    "make_loggers",
    "trackers",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggerChoice:
    """Where a run is logged beside its CSV file, which there always is.

    Attributes:
        wandb_mode: offline, online or disabled.
        tensorboard: whether TensorBoard gets the figures, too.
        timeout_s: most seconds for W&B to open a run, and to finish it.
    """

    wandb_mode: WandbMode
    tensorboard: bool
    timeout_s: float


def make_loggers(choice: LoggerChoice, facts: WandbRunFacts, *, folder: Path, scrubber: Scrubber) -> list[Logger]:
    """Returns the loggers of the first process of a run; the others have none. `finish_loggers` must be called.

    Args:
        choice: where to log.
        facts: how the run is called in W&B.
        folder: of the run; a run that goes on adds to what it finds there.
        scrubber: takes out of what goes to W&B what is nobody else's business.

    Raises:
        ConfigError: if TensorBoard is asked for and not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loggers: list[Logger] = [_csv_logger(folder)]
    if choice.tensorboard:
        loggers.append(_tensorboard_logger(folder))
    if choice.wandb_mode != "disabled":
        loggers.append(
            WandbTracker(facts, mode=choice.wandb_mode, folder=folder, scrubber=scrubber, timeout_s=choice.timeout_s)
        )
    return loggers


def trackers(loggers: Sequence[Logger]) -> list[WandbTracker]:
    """Returns the loggers that take tables, pictures and files."""
    return [entry for entry in loggers if isinstance(entry, WandbTracker)]


def log_table(loggers: Sequence[Logger], *, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Shows a table where tables can be shown.

    Args:
        loggers: of `make_loggers`.
        name: of the table.
        columns: their names.
        rows: one value a column; a column holds one kind of value, or None.
    """
    for tracker in trackers(loggers):
        tracker.log_table(name, columns, rows)


def finish_loggers(loggers: Sequence[Logger], *, failed: bool, hurried: bool) -> tuple[str, ...]:
    """Closes every logger; returns what went wrong with W&B, which is nothing to stop for.

    Args:
        loggers: of `make_loggers`.
        failed: whether the run did.
        hurried: whether it was interrupted, so that it must be gone within seconds.
    """
    for entry in loggers:
        entry.finalize("failed" if failed else "success")
    problems = [tracker.close(failed=failed, hurried=hurried) for tracker in trackers(loggers)]
    return tuple(problem for problem in problems if problem is not None)


def _tensorboard_logger(folder: Path) -> TensorBoardLogger:
    try:
        return TensorBoardLogger(save_dir=folder, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "logger.tensorboard=true needs TensorBoard: pip install -c constraints.txt -e '.[tensorboard]'"
        ) from error


def _csv_logger(folder: Path) -> CSVLogger:
    """Returns Lightning's logger with the rows of an earlier part of the run, which it would delete."""
    logger = CSVLogger(save_dir=folder, name="", version="csv")
    path = folder / "csv" / "metrics.csv"
    rows: list[dict[str, str]] = []
    if path.is_file():
        with path.open(newline="") as stream:
            rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(stream)]
    with warnings.catch_warnings():  # says that it deletes what is put back here
        warnings.simplefilter("ignore")
        experiment = logger.experiment
    experiment.metrics = rows
    experiment.save()
    return logger
