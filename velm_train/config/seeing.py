"""Settings for detector, gate and regions."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, between, inside, one_of, require

GATE_POLICIES = ("detector", "oracle", "off")


@dataclass(kw_only=True, slots=True)
class DetectorConfig:
    """The frozen unsupervised detector.

    Attributes:
        name: patchcore.
        backbone: frozen encoder, such as efficientnet_lite0 or dinov2_small.
        layers: its layers, side by side in a patch feature.
        input_height_px: images are resized to this height before the backbone.
        input_width_px: and this width.
        coreset_fraction: share of patch features kept in the memory bank, above 0, to 1.
        max_bank_patches: upper limit of the memory bank, 16 or more.
        smoothing_sigma: Gaussian smoothing of the map in patches, 0 for none.
        score_top_fraction: the image score is the mean of this share of the highest map values; 0 means the maximum.
        score_diffuse: whether the map's mean counts beside its top, each in standard deviations of the good images.
        reweight: whether the score is multiplied by the paper's neighbourhood weight.
        num_neighbours: neighbours in that weight, 2 or more.
        half_precision: whether the backbone's matrices are multiplied in bfloat16.
        batch_size: images per forward pass.
    """

    name: str
    backbone: str
    layers: list[str]
    input_height_px: int
    input_width_px: int
    coreset_fraction: float
    max_bank_patches: int
    smoothing_sigma: float
    score_top_fraction: float
    score_diffuse: bool
    reweight: bool
    num_neighbours: int
    half_precision: bool
    batch_size: int

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("detector.name", self.name, ("patchcore",))
        require(bool(self.layers), key="detector.layers", got="[]", allowed="one layer or more")
        between("detector.input_height_px", self.input_height_px, 32, 2048, "pixels")
        between("detector.input_width_px", self.input_width_px, 32, 2048, "pixels")
        require(
            0 < self.coreset_fraction <= 1,
            key="detector.coreset_fraction",
            got=self.coreset_fraction,
            allowed="above 0, to 1",
        )
        at_least("detector.max_bank_patches", self.max_bank_patches, 16)
        between("detector.smoothing_sigma", self.smoothing_sigma, 0.0, 16.0, "patches")
        between("detector.score_top_fraction", self.score_top_fraction, 0.0, 1.0)
        at_least("detector.num_neighbours", self.num_neighbours, 2)
        at_least("detector.batch_size", self.batch_size, 1)


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
    """

    policy: str
    alpha: float
    training_alpha: float
    pixel_alpha: float
    allow_transductive: bool
    drift_level: float

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("gate.policy", self.policy, GATE_POLICIES)
        for key in ("alpha", "training_alpha", "pixel_alpha", "drift_level"):
            inside(f"gate.{key}", getattr(self, key), 0.0, 1.0)
        at_least("gate.training_alpha", self.training_alpha, self.alpha)


@dataclass(kw_only=True, slots=True)
class RegionsConfig:
    """Where to look.

    Attributes:
        min_area_px: smallest component, original pixels; the strongest one is kept in any case.
        merge_distance_px: components closer than this become one.
        max_regions: regions per image, strongest first, 1 or more.
        diffuse_fraction: a component above this share of the image, above 0 to 1, counts as diffuse: the whole image
            is shown.
        crop_margin_fraction: context on each side, as a share of the region's longer side.
        crop_min_px: smallest crop side, original pixels.
        contour_width_px: line width of the contour overlay.
    """

    min_area_px: int
    merge_distance_px: int
    max_regions: int
    diffuse_fraction: float
    crop_margin_fraction: float
    crop_min_px: int
    contour_width_px: int

    def __post_init__(self) -> None:
        """Checks the values."""
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
