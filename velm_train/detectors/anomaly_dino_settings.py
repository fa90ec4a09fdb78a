"""The settings of AnomalyDINO: plain values, checked when made."""

from dataclasses import dataclass

from velm_train.core.errors import ConfigError
from velm_train.core.records import SizeHW

FOREGROUND_CHOICES = ("auto", "on", "off")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnomalyDinoSettings:
    """Every knob that changes what AnomalyDINO outputs.

    Attributes:
        layers: names of the backbone's layers; each counts alike in the cosine. The paper takes the last one.
        input_hw: size in pixels to which images are resized.
        foreground: whether patches of the background are left out: "auto" (where the good images show one object apart
            from their border), "on" or "off".
        num_rotations: turned copies of every fitted image, itself included, evenly over the circle: 1 (none) to 8.
        smoothing_sigma: of the Gaussian over the map, in patches; 0 smooths nothing.
        score_top_fraction: the score is the mean of this share of the largest map values; 0.01 in the paper.
        score_diffuse: the map's mean counts beside its top, each in standard deviations of the left-out good images.
        half_precision: multiply the backbone's matrices in bfloat16; distances are float32 in any case.
    """

    layers: tuple[str, ...]
    input_hw: SizeHW
    foreground: str
    num_rotations: int
    smoothing_sigma: float
    score_top_fraction: float
    score_diffuse: bool
    half_precision: bool

    def __post_init__(self) -> None:
        """Names the first setting that is impossible.

        Raises:
            ConfigError: with the value got and the values allowed.
        """
        known = self.foreground in FOREGROUND_CHOICES
        checks = (
            ("anomaly_dino.foreground", self.foreground, known, f"choose one of {', '.join(FOREGROUND_CHOICES)}"),
            ("anomaly_dino.num_rotations", self.num_rotations, 1 <= self.num_rotations <= 8, "must lie in 1 to 8"),
            ("smoothing_sigma", self.smoothing_sigma, self.smoothing_sigma >= 0, "must be at least 0 (no smoothing)"),
            ("score_top_fraction", self.score_top_fraction, 0 <= self.score_top_fraction <= 1, "must lie in [0, 1]"),
        )
        for name, value, holds, allowed in checks:
            if not holds:
                raise ConfigError(f"detector.{name} is {value}; {allowed}")
