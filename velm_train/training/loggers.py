"""A W&B mode, a name and a folder go in; the Lightning loggers of a run come out."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import wandb
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from velm_train.core.artifacts import write_atomic

__all__ = ["Logger", "finish_loggers", "log_table", "make_loggers"]

WandbMode = Literal["offline", "online", "disabled"]
RUN_ID_NAME = "wandb_run_id.json"


def make_loggers(
    wandb_mode: WandbMode, *, project: str, name: str, folder: Path, tags: Sequence[str], config: dict[str, Any]
) -> list[Logger]:
    """Returns a CSV logger, and a W&B logger unless it is disabled.

    The W&B run id is kept in the folder, so that a resumed or requeued run goes on as the same run. `finish_loggers`
    must be called at the end.

    Args:
        wandb_mode: "offline" writes below `folder` and needs no account; "online" also uploads.
        project: W&B project.
        name: of the run.
        folder: of the run.
        tags: W&B tags.
        config: the resolved settings as plain containers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loggers: list[Logger] = [CSVLogger(save_dir=folder, name="", version="csv")]
    if wandb_mode == "disabled" or getattr(rank_zero_only, "rank", 0) != 0:
        return loggers
    # Opened here and not by the logger, which passes a setting that the library warns about.
    run = wandb.init(
        project=project,
        name=name,
        dir=folder,
        id=_run_id(folder),
        resume="allow" if wandb_mode == "online" else None,  # an offline run cannot look its earlier part up
        tags=list(tags),
        config=config,
        mode=wandb_mode,
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True),
    )
    loggers.append(WandbLogger(experiment=run, log_model=False))
    return loggers


def log_table(
    loggers: Sequence[Logger], *, name: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]
) -> None:
    """Shows a table in W&B; loggers that know no tables are left alone.

    Args:
        loggers: of `make_loggers`.
        name: of the table.
        columns: their names.
        rows: one value a column; a column holds one kind of value, or None.
    """
    for entry in loggers:
        if isinstance(entry, WandbLogger):
            entry.log_table(key=name, columns=list(columns), data=[list(row) for row in rows])


def finish_loggers(loggers: Sequence[Logger], *, failed: bool) -> None:
    """Closes every logger; an open W&B run would swallow the next one of the same process."""
    for entry in loggers:
        entry.finalize("failed" if failed else "success")
    if wandb.run is not None:
        wandb.finish(exit_code=int(failed))


def _run_id(folder: Path) -> str:
    path = folder / RUN_ID_NAME
    if path.is_file():
        return str(json.loads(path.read_text())["run_id"])
    run_id = os.urandom(4).hex()  # an identifier, not part of the experiment: it must differ between equal runs
    write_atomic(path, json.dumps({"run_id": run_id}))
    return run_id
