"""The settings of SubspaceAD and PaDiM: plain values, checked when made."""

from dataclasses import dataclass

from velm_train.core.errors import ConfigError
from velm_train.core.records import SizeHW


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentSettings:
    """What both have in common; everything here changes the output.

    Attributes:
        layers: names of the backbone's layers, side by side in a patch feature.
        input_hw: size in pixels to which images are resized.
        smoothing_sigma: of the Gaussian over the map, in patches; 0 smooths nothing.
        score_top_fraction: the score is the mean of this share of the largest map values, in [0, 1]; 0 is the maximum.
        score_diffuse: the map's mean counts beside its top, each in standard deviations of the left-out good images.
        half_precision: multiply the backbone's matrices in bfloat16; moments are float64 in any case.
    """

    layers: tuple[str, ...]
    input_hw: SizeHW
    smoothing_sigma: float
    score_top_fraction: float
    score_diffuse: bool
    half_precision: bool

    def __post_init__(self) -> None:
        """Names the first setting that is impossible.

        Raises:
            ConfigError: with the value got and the values allowed.
        """
        _require("layers", self.layers, bool(self.layers), "name at least one layer of the backbone")
        _require("input_hw", self.input_hw, min(self.input_hw) >= 1, "both sides must be at least 1 pixel")
        _require("smoothing_sigma", self.smoothing_sigma, self.smoothing_sigma >= 0, "must be at least 0")
        top = self.score_top_fraction
        _require("score_top_fraction", top, 0 <= top <= 1, "must lie in [0, 1]; 0 is the maximum")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubspaceAdSettings(MomentSettings):
    """Every knob that changes what SubspaceAD outputs.

    Attributes:
        explained_variance: share of the variance that the subspace keeps, above 0, below 1; 0.99 in the paper.
        max_components: upper limit of its dimension, 1 or more.
    """

    explained_variance: float
    max_components: int

    def __post_init__(self) -> None:
        """Names the first setting that is impossible.

        Raises:
            ConfigError: with the value got and the values allowed.
        """
        MomentSettings.__post_init__(self)  # super() does not find a class that slots made anew
        share = self.explained_variance
        _require("subspace_ad.explained_variance", share, 0 < share < 1, "must lie above 0 and below 1")
        _require("subspace_ad.max_components", self.max_components, self.max_components >= 1, "must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class PadimSettings(MomentSettings):
    """Every knob that changes what PaDiM outputs.

    Attributes:
        num_channels: feature channels drawn at random, 1 or more; all of them where the layers have no more.
        regularisation: added to the diagonal of every covariance, above 0, to 1, where 1 is the mean square of a
            channel; 0.01 in the paper, in the units of its own features.
        seed: of the draw.
    """

    num_channels: int
    regularisation: float
    seed: int

    def __post_init__(self) -> None:
        """Names the first setting that is impossible.

        Raises:
            ConfigError: with the value got and the values allowed.
        """
        MomentSettings.__post_init__(self)
        _require("padim.num_channels", self.num_channels, self.num_channels >= 1, "must be at least 1")
        amount = self.regularisation
        _require("padim.regularisation", amount, 0 < amount <= 1, "must lie above 0, to 1")


def _require(name: str, got: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"detector.{name} is {got}; {allowed}")
