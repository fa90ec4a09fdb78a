"""Settings for what changes in training pictures from visit to visit."""

from dataclasses import dataclass

from velm_train.config.checks import require


@dataclass(kw_only=True, slots=True)
class AugmentationConfig:
    """How training pictures are shown, drawn anew at each visit; everything off shows them as they are.

    Attributes:
        flips: whether left and right, and top and bottom, are exchanged every other time each; never in categories
            where the taxonomy says that orientation matters, nor where question or answer speak of places.
        quarter_turns: whether pictures are turned by 0, 90, 180 or 270 degrees; with the same exceptions.
        brightness: largest change of all values, as a share of them, 0 to below 1.
        contrast: largest change of their distance from the picture's mean, as a share of it, 0 to below 1.
    """

    flips: bool
    quarter_turns: bool
    brightness: float
    contrast: float

    def __post_init__(self) -> None:
        """Checks the values."""
        for name in ("brightness", "contrast"):
            value = getattr(self, name)
            require(0 <= value < 1, key=f"trainer.augmentation.{name}", got=value, allowed="0 to below 1")

    @property
    def active(self) -> bool:
        """True if anything may change."""
        return self.flips or self.quarter_turns or self.brightness > 0 or self.contrast > 0
