"""Settings and a run folder in; where the run is logged, under which name, group and tags, out."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from velm_train.cli.launch.record import read_job
from velm_train.cli.workshop import Workshop
from velm_train.core.errors import ArtifactError
from velm_train.core.pruning import TrialPruned
from velm_train.core.scrubbing import make_scrubber
from velm_train.reporting.manifest import find_checkout
from velm_train.training.loggers import Logger, LoggerChoice, WandbRunFacts, finish_loggers, make_loggers

MULTIRUN = "multirun.yaml"
"""What Hydra leaves in the folder of a sweep."""


@contextmanager
def logged(shop: Workshop) -> Iterator[Sequence[Logger]]:
    """Opens the loggers for a `with` block, and closes them whatever happens; W&B can delay but not stop a run."""
    loggers = open_loggers(shop) if shop.rank.is_first else []
    failed, hurried = True, False
    try:
        yield loggers
        failed = False
    except TrialPruned:
        failed = False
        raise
    except KeyboardInterrupt:
        hurried = True
        raise
    finally:
        for problem in finish_loggers(loggers, failed=failed, hurried=hurried):
            shop.progress.note(f"W&B: {problem}; the run folder is complete, `wandb sync` uploads what is missing")


def open_loggers(shop: Workshop) -> list[Logger]:
    """Returns the loggers of a run."""
    config = shop.config
    assert shop.run_folder is not None
    sweep = sweep_of(shop.run_folder)
    group = config.logger.group
    checkout = find_checkout(Path(__file__).resolve().parents[2])
    git = None if checkout is None else {"commit": checkout.commit, "dirty": checkout.dirty}
    return make_loggers(
        LoggerChoice(
            wandb_mode=cast("Any", config.logger.wandb_mode),
            tensorboard=config.logger.tensorboard,
            timeout_s=config.logger.timeout_s,
        ),
        WandbRunFacts(
            project=config.logger.project,
            name=config.name if sweep is None else f"{config.name} {shop.run_folder.name}",
            group=sweep.name if group is None and sweep is not None else group,
            tags=(*config.logger.tags, *([] if sweep is None else job_words(shop.run_folder))),
            job_type=config.task.name,
            config=asdict(config) | {"git": git},
            final_step=config.trainer.max_steps + 1,
        ),
        folder=shop.run_folder,
        scrubber=make_scrubber(os.environ),
    )


def sweep_of(run_folder: Path) -> Path | None:
    """Returns the folder of the sweep that a run is a job of, or None."""
    parent = run_folder.resolve().parent
    return parent if (parent / MULTIRUN).is_file() else None


def job_words(run_folder: Path) -> tuple[str, ...]:
    """Returns what tells a job of a sweep from the others, as its launcher noted it."""
    try:
        job = read_job(run_folder)
    except ArtifactError:
        return ()
    return () if job is None else tuple(word for word in job.overrides if not word.startswith(("+", "hydra", "paths.")))
