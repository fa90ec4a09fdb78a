"""Settings for gate and regions."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, between, inside, one_of, require

GATE_POLICIES = ("detector", "oracle", "off")


@dataclass(kw_only=True, slots=True)
class GateConfig:
    """Who goes on to the language model.

    Attributes:
        policy: detector, oracle (ground truth decides; every row says so) or off.
        alpha: false-alarm rate to hold on normals, above 0, below 1.
        training_alpha: the looser rate at which training samples are drawn, alpha or more: its false alarms become
            "no defect" samples.
        pixel_alpha: share of normal pixels above the pixel threshold, above 0, below 1.
        allow_transductive: accept a detector that looks at the test batch; every row says so.
        drift_level: significance level of the drift warning, above 0, below 1.
        card_alphas: further false-alarm rates that the gate card shows beside alpha, each above 0, below 1.
    """

    policy: str
    alpha: float
    training_alpha: float
    pixel_alpha: float
    allow_transductive: bool
    drift_level: float
    card_alphas: list[float]

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("gate.policy", self.policy, GATE_POLICIES)
        for key in ("alpha", "training_alpha", "pixel_alpha", "drift_level"):
            inside(f"gate.{key}", getattr(self, key), 0.0, 1.0)
        at_least("gate.training_alpha", self.training_alpha, self.alpha)
        rates = all(0 < alpha < 1 for alpha in self.card_alphas)
        require(rates, key="gate.card_alphas", got=self.card_alphas, allowed="rates above 0 and below 1")


@dataclass(kw_only=True, slots=True)
class RegionsConfig:
    """Where to look.

    Attributes:
        binarisation: threshold (the category's pixel threshold) or mebin (the image's own most stable one above it).
        min_area_px: smallest component, original pixels; the strongest one is kept in any case.
        merge_distance_px: components closer than this become one.
        max_regions: regions per image, strongest first, 1 or more.
        diffuse_fraction: a component above this share of the image, above 0 to 1, counts as diffuse: the whole image
            is shown.
        crop_margin_fraction: context on each side, as a share of the region's longer side.
        crop_min_px: smallest crop side, original pixels.
        contour_width_px: line width of the contour overlay.
    """

    binarisation: str
    min_area_px: int
    merge_distance_px: int
    max_regions: int
    diffuse_fraction: float
    crop_margin_fraction: float
    crop_min_px: int
    contour_width_px: int

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("regions.binarisation", self.binarisation, ("threshold", "mebin"))
        at_least("regions.min_area_px", self.min_area_px, 1, "pixels")
        at_least("regions.merge_distance_px", self.merge_distance_px, 0, "pixels")
        at_least("regions.max_regions", self.max_regions, 1)
        require(
            0 < self.diffuse_fraction <= 1,
            key="regions.diffuse_fraction",
            got=self.diffuse_fraction,
            allowed="above 0, to 1",
        )
        between("regions.crop_margin_fraction", self.crop_margin_fraction, 0.0, 4.0)
        at_least("regions.crop_min_px", self.crop_min_px, 16, "pixels")
        between("regions.contour_width_px", self.contour_width_px, 1, 16, "pixels")
