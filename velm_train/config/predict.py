"""Settings for naming the defects on new pictures with a finished run."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, between


@dataclass(kw_only=True, slots=True)
class PredictConfig:
    """How `task=predict` works through its pictures; what it asks and what gate it has is the run's own.

    Attributes:
        batch: pictures that are read, judged and asked about together, 1 or more; they are in memory at once.
        abstain_below: answers less probable than this, 0 to 1, are called "unsure"; null for what the run's own
            calibration of answers says, 0 for none.
        max_drawn: flagged pictures that are drawn on the page, defects first, 0 or more; its tables hold all pictures.
    """

    batch: int
    abstain_below: float | None
    max_drawn: int

    def __post_init__(self) -> None:
        """Checks the values."""
        at_least("predict.batch", self.batch, 1)
        if self.abstain_below is not None:
            between("predict.abstain_below", self.abstain_below, 0.0, 1.0)
        at_least("predict.max_drawn", self.max_drawn, 0)
