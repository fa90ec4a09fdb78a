"""The settings of MuSc: plain values, checked when made."""

from dataclasses import dataclass

from velm_train.core.errors import ConfigError
from velm_train.core.records import SizeHW

MODES = ("transductive", "bank")


@dataclass(frozen=True, kw_only=True, slots=True)
class MuScSettings:
    """Every knob that changes what MuSc outputs.

    Attributes:
        layers: names of the backbone's layers, each scored on its own; the last one gives the image embeddings.
        input_hw: size in pixels to which images are resized.
        mode: "transductive" compares the images to be judged with each other, as published; "bank" compares each with
            the fitted good images alone.
        neighbourhoods: sides r of the squares over which patches are averaged, odd.
        lowest_fraction: share of the other images, nearest first, that decides about a patch; in (0, 1].
        rescore_neighbours: images over which scores are averaged, one number an average; empty for none. Read in mode
            "transductive" alone.
        smoothing_sigma: of the Gaussian over the map, in patches; 0, as published, smooths nothing.
        score_top_fraction: the score is the mean of this share of the largest map values; 0 is the maximum.
        score_diffuse: the map's mean counts beside its top, each in standard deviations of the good images; in mode
            "bank" alone.
        half_precision: multiply the backbone's matrices in bfloat16.
    """

    layers: tuple[str, ...]
    input_hw: SizeHW
    mode: str
    neighbourhoods: tuple[int, ...]
    lowest_fraction: float
    rescore_neighbours: tuple[int, ...]
    smoothing_sigma: float
    score_top_fraction: float
    score_diffuse: bool
    half_precision: bool

    def __post_init__(self) -> None:
        """Names the first setting that is impossible.

        Raises:
            ConfigError: with the value got and the values allowed.
        """
        odd = bool(self.neighbourhoods) and all(side >= 1 and side % 2 == 1 for side in self.neighbourhoods)
        positive = all(count >= 1 for count in self.rescore_neighbours)
        checks = (
            ("musc.mode", self.mode, self.mode in MODES, f"choose one of {', '.join(MODES)}"),
            ("musc.neighbourhoods", self.neighbourhoods, odd, "name at least one odd number"),
            ("musc.lowest_fraction", self.lowest_fraction, 0 < self.lowest_fraction <= 1, "must lie in (0, 1]"),
            ("musc.rescore_neighbours", self.rescore_neighbours, positive, "name numbers of at least 1, or none"),
            ("smoothing_sigma", self.smoothing_sigma, self.smoothing_sigma >= 0, "must be at least 0 (no smoothing)"),
            ("score_top_fraction", self.score_top_fraction, 0 <= self.score_top_fraction <= 1, "must lie in [0, 1]"),
            (
                "score_diffuse",
                self.score_diffuse,
                self.mode == "bank" or not self.score_diffuse,
                "needs detector.musc.mode=bank: in mode transductive no good image says what is usual",
            ),
        )
        for name, value, holds, allowed in checks:
            if not holds:
                raise ConfigError(f"detector.{name} is {value}; {allowed}")
