"""The settings of PatchCore: plain values, checked when made."""

from dataclasses import dataclass

from velm_train.core.errors import ConfigError
from velm_train.core.records import SizeHW


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchCoreSettings:
    """Every knob that changes what PatchCore outputs.

    Attributes:
        layers: names of the backbone's layers, side by side in a patch feature.
        input_hw: size in pixels to which images are resized; give it the aspect of the data set's images.
        coreset_fraction: share of the patches kept in the memory bank, in (0, 1].
        max_patches: the memory bank never holds more patches than this, at least 1.
        smoothing_sigma: of the Gaussian over the map, in patches; 0 smooths nothing.
        score_top_fraction: the score is the mean of this share of the largest map values, in [0, 1]; 0 is the maximum.
            A mean finds diffuse defects of the whole part better, the maximum small ones.
        score_diffuse: the score is the larger of that and the mean over the whole map, each in standard deviations from
            what the fitted images show when left out; finds local and diffuse defects alike.
        even_edges: damp the map near the picture's edge by as much as left-out good images exceed its inside there;
            False, as published, leaves it as it is.
        reweight: multiply the score by the paper's neighbourhood weight.
        num_neighbours: neighbours in that weight, at least 2; read with `reweight` alone.
        seed: of the projection and the first patch of the coreset.
        half_precision: multiply the backbone's matrices in bfloat16; distances are float32 in any case.
    """

    layers: tuple[str, ...]
    input_hw: SizeHW
    coreset_fraction: float = 0.1
    max_patches: int = 4000
    smoothing_sigma: float = 1.0
    score_top_fraction: float = 0.0
    score_diffuse: bool = False
    even_edges: bool = True
    reweight: bool = False
    num_neighbours: int = 9
    seed: int = 0
    half_precision: bool = False

    def __post_init__(self) -> None:
        """Names the first setting that is impossible.

        Raises:
            ConfigError: with the value got and the values allowed.
        """
        checks = (
            ("layers", bool(self.layers), "name at least one layer of the backbone"),
            ("input_hw", min(self.input_hw) >= 1, "both sides must be at least 1 pixel"),
            ("coreset_fraction", 0 < self.coreset_fraction <= 1, "must lie in (0, 1]"),
            ("max_patches", self.max_patches >= 1, "must be at least 1"),
            ("smoothing_sigma", self.smoothing_sigma >= 0, "must be at least 0 (no smoothing)"),
            ("score_top_fraction", 0 <= self.score_top_fraction <= 1, "must lie in [0, 1]; 0 is the maximum"),
            ("num_neighbours", self.num_neighbours >= 2, "must be at least 2"),
        )
        for name, holds, allowed in checks:
            if not holds:
                raise ConfigError(f"detector.{name} is {getattr(self, name)}; {allowed}")
