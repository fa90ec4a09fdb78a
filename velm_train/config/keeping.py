"""Settings for what is kept and measured while training, and where it begins."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, require

VALIDATE = "set trainer.validation_share=0.2 to hold training parts out for validation"


@dataclass(kw_only=True, slots=True)
class CallbacksConfig:
    """What is kept and logged while training.

    Attributes:
        checkpoint_every: optimiser steps between checkpoints, 1 or more.
        keep_last: how many of the newest checkpoints stay, 1 or more; an older one serves where the newest is damaged.
        keep_best: whether the checkpoint of the lowest validation loss stays as well; with trainer.validation_share.
        keep_checkpoints: whether checkpoints stay beside the finished adapter, which takes their place otherwise.
        validate_every: optimiser steps between validation losses, 1 or more; the last step has one in any case.
        use_best: whether the adapter of the lowest validation loss is evaluated and not the last one; with keep_best.
        log_every: optimiser steps between values in the loggers, 1 or more.
    """

    checkpoint_every: int
    keep_last: int
    keep_best: bool
    keep_checkpoints: bool
    validate_every: int
    use_best: bool
    log_every: int

    def __post_init__(self) -> None:
        """Checks the values."""
        for key in ("checkpoint_every", "keep_last", "validate_every", "log_every"):
            at_least(f"callbacks.{key}", getattr(self, key), 1)
        require(
            self.keep_best or not self.use_best,
            key="callbacks.use_best",
            got="true",
            allowed="false, or true with callbacks.keep_best=true, so that the best checkpoint is there at the end",
        )


def check_start(ckpt_path: str, *, task: str, validation_share: float, callbacks: CallbacksConfig) -> None:
    """Refuses what needs validation where there is none, and a start where nothing is trained.

    Args:
        ckpt_path: auto, none, best or a path.
        task: name of the task.
        validation_share: of `trainer`.
        callbacks: what is kept.
    """
    require(bool(ckpt_path), key="ckpt_path", got="''", allowed="auto, none, best, or a path of checkpoints")
    require(
        ckpt_path == "auto" or task in {"run", "train"},
        key="ckpt_path",
        got=ckpt_path,
        allowed=f"auto with task={task}, which trains nothing; a finished run is named by ckpt",
    )
    validated = validation_share > 0
    require(
        validated or not callbacks.keep_best,
        key="callbacks.keep_best",
        got="true",
        allowed=f"false, or {VALIDATE}",
    )
    require(
        callbacks.keep_best or ckpt_path != "best",
        key="ckpt_path",
        got="best",
        allowed="auto, none or a path; for best set callbacks.keep_best=true"
        + ("" if validated else f", and {VALIDATE}"),
    )
