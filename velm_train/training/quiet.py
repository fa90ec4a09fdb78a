"""Lightning's tips and warnings go in; those that concern nobody here do not come out."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

_QUIET_WARNINGS = (
    ".*`broadcast_buffers` is deprecated.*",  # its new name is not known to every version that is allowed
    ".*in eval mode at the start of training.*",  # the frozen parts are meant to be
    ".*your dataloader is not resumable.*",  # the datamodule resumes it
    ".*does not have many workers.*",  # features are memory-mapped: workers would only copy them
    ".*available but not used.*",  # the accelerator is the user's choice
    ".*`srun` command is available.*",  # where SLURM is installed, and this run is no job
    ".*LeafSpec.*is deprecated.*",  # inside Lightning
    ".*lr_scheduler.step.*before.*optimizer.step.*",  # the loss scaler of 16-mixed skips first steps
)
_QUIET_LOG_PREFIXES = ("GPU available", "TPU available", "HPU available", "`Trainer.fit` stopped", "💡 Tip", "Restor")


class _DropTips(logging.Filter):
    """Keeps what Lightning says about every start away from the user."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().lstrip().startswith(_QUIET_LOG_PREFIXES)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences the named tips and warnings, and nothing else, for the length of a run."""
    drop_tips = _DropTips()
    speaker: Any = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    speaker.addFilter(drop_tips)
    try:
        with warnings.catch_warnings():
            for message in _QUIET_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        speaker.removeFilter(drop_tips)
