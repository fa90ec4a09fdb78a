"""Settings for the frozen unsupervised detector: what all share, and one block for each."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, between, inside, one_of, require

DETECTORS = ("patchcore", "subspace_ad", "padim", "anomaly_dino", "musc", "anomalib", "maps")


@dataclass(kw_only=True, slots=True)
class PatchCoreConfig:
    """Memory bank of patches (Roth et al. 2022).

    Attributes:
        coreset_fraction: share of patch features kept in the memory bank, above 0, to 1.
        max_bank_patches: upper limit of the memory bank, 16 or more.
        even_edges: whether the map is damped near the picture's edge by as much as left-out good images exceed its
            inside there.
        reweight: whether the score is multiplied by the paper's neighbourhood weight.
        num_neighbours: neighbours in that weight, 2 or more.
    """

    coreset_fraction: float
    max_bank_patches: int
    even_edges: bool
    reweight: bool
    num_neighbours: int

    def __post_init__(self) -> None:
        """Checks the values."""
        key = "detector.patchcore.coreset_fraction"
        require(0 < self.coreset_fraction <= 1, key=key, got=self.coreset_fraction, allowed="above 0, to 1")
        at_least("detector.patchcore.max_bank_patches", self.max_bank_patches, 16)
        at_least("detector.patchcore.num_neighbours", self.num_neighbours, 2)


@dataclass(kw_only=True, slots=True)
class SubspaceAdConfig:
    """Distance to the principal subspace of normal patches.

    Attributes:
        explained_variance: share of the variance that the subspace keeps, above 0, below 1.
        max_components: upper limit of its dimension, 1 or more.
    """

    explained_variance: float
    max_components: int

    def __post_init__(self) -> None:
        """Checks the values."""
        inside("detector.subspace_ad.explained_variance", self.explained_variance, 0.0, 1.0)
        at_least("detector.subspace_ad.max_components", self.max_components, 1)


@dataclass(kw_only=True, slots=True)
class PadimConfig:
    """One Gaussian for each place (Defard et al. 2021).

    Attributes:
        num_channels: feature channels drawn at random, 1 or more.
        regularisation: added to the diagonal of every covariance, above 0, to 1.
    """

    num_channels: int
    regularisation: float

    def __post_init__(self) -> None:
        """Checks the values."""
        at_least("detector.padim.num_channels", self.num_channels, 1, "channels")
        key = "detector.padim.regularisation"
        require(0 < self.regularisation <= 1, key=key, got=self.regularisation, allowed="above 0, to 1")


@dataclass(kw_only=True, slots=True)
class AnomalyDinoConfig:
    """Cosine distance to the patches of few normal images, the background left out (Damm et al. 2025).

    Attributes:
        foreground: whether patches of the background are left out: auto (where one principal component separates an
            object from its background), on or off.
        num_rotations: turned copies of every fitted image, 1 (none) to 8.
    """

    foreground: str
    num_rotations: int

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("detector.anomaly_dino.foreground", self.foreground, ("auto", "on", "off"))
        between("detector.anomaly_dino.num_rotations", self.num_rotations, 1, 8)


@dataclass(kw_only=True, slots=True)
class MuScConfig:
    """Mutual scoring of unlabelled images (Li et al. 2024).

    Attributes:
        mode: transductive (each test image against the others, as published) or bank (against the fitted normals).
        neighbourhoods: sides of the square over which patches are averaged, odd, 1 or more.
        lowest_fraction: share of the other images, nearest first, that a patch's score is the mean of; above 0, to 1.
        rescore_neighbours: images whose scores are averaged, one number a pass; empty for none. Only in mode
            transductive.
    """

    mode: str
    neighbourhoods: list[int]
    lowest_fraction: float
    rescore_neighbours: list[int]

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("detector.musc.mode", self.mode, ("transductive", "bank"))
        odd = bool(self.neighbourhoods) and all(side >= 1 and side % 2 == 1 for side in self.neighbourhoods)
        key = "detector.musc.neighbourhoods"
        require(odd, key=key, got=self.neighbourhoods, allowed="odd numbers, one or more of them")
        key = "detector.musc.lowest_fraction"
        require(0 < self.lowest_fraction <= 1, key=key, got=self.lowest_fraction, allowed="above 0, to 1")
        key = "detector.musc.rescore_neighbours"
        require(
            all(number >= 1 for number in self.rescore_neighbours),
            key=key,
            got=self.rescore_neighbours,
            allowed="numbers of 1 or more",
        )


@dataclass(kw_only=True, slots=True)
class AnomalibConfig:
    """Any image model of anomalib by name.

    Attributes:
        model: class name in anomalib.models, such as Padim or Dinomaly.
        max_epochs: training epochs, 1 or more; models without training take one pass.
        arguments: keyword arguments of the model, as JSON text.
    """

    model: str
    max_epochs: int
    arguments: str

    def __post_init__(self) -> None:
        """Checks the values."""
        require(bool(self.model), key="detector.anomalib.model", got="''", allowed="a class name of anomalib.models")
        at_least("detector.anomalib.max_epochs", self.max_epochs, 1)


@dataclass(kw_only=True, slots=True)
class MapsConfig:
    """Anomaly maps that another system wrote.

    Attributes:
        folder: holds one map an image, `<image_id>.npy`, .tiff or .png.
        scores: CSV file with columns image_id and score, or null to take the maximum of each map.
    """

    folder: str
    scores: str | None

    def __post_init__(self) -> None:
        """Checks the values."""
        require(bool(self.folder), key="detector.maps.folder", got="''", allowed="a folder of maps")


@dataclass(kw_only=True, slots=True)
class DetectorConfig:
    """The frozen unsupervised detector.

    Attributes:
        name: patchcore, subspace_ad, padim, anomaly_dino, musc, anomalib or maps; the block of that name is set and
            the others are null.
        shared: whether one detector is fitted on the normals of all categories instead of one for each.
        num_folds: 0 calibrates by leaving out one part at a time; 2 or more by as many folds, which a detector without
            leave-one-out needs.
        backbone: frozen encoder, such as dinov2_small, timm/<name> or transformers/<folder or id>.
        layers: its layers, side by side in a patch feature.
        input_height_px: images are resized to this height before the backbone.
        input_width_px: and this width.
        smoothing_sigma: Gaussian smoothing of the map in patches, 0 for none.
        score_top_fraction: the image score is the mean of this share of the highest map values; 0 means the maximum.
        score_diffuse: whether the map's mean counts beside its top, each in standard deviations of the good images.
        half_precision: whether the backbone's matrices are multiplied in bfloat16.
        batch_size: images per forward pass.
        patchcore: set for name patchcore, else null; so for all below.
        subspace_ad: see there.
        padim: see there.
        anomaly_dino: see there.
        musc: see there.
        anomalib: see there.
        maps: see there.
    """

    name: str
    shared: bool
    num_folds: int
    backbone: str
    layers: list[str]
    input_height_px: int
    input_width_px: int
    smoothing_sigma: float
    score_top_fraction: float
    score_diffuse: bool
    half_precision: bool
    batch_size: int
    patchcore: PatchCoreConfig | None
    subspace_ad: SubspaceAdConfig | None
    padim: PadimConfig | None
    anomaly_dino: AnomalyDinoConfig | None
    musc: MuScConfig | None
    anomalib: AnomalibConfig | None
    maps: MapsConfig | None

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("detector.name", self.name, DETECTORS)
        for name in DETECTORS:
            is_set = getattr(self, name) is not None
            require(
                is_set == (name == self.name),
                key=f"detector.{name}",
                got="set" if is_set else "null",
                allowed=f"the block of detector.name={self.name} and no other; choose it with detector={self.name}",
            )
        self._check_unread()
        at_least("detector.num_folds", self.num_folds, 0)
        require(self.num_folds != 1, key="detector.num_folds", got=1, allowed="0, or 2 or more")
        require(bool(self.layers), key="detector.layers", got="[]", allowed="one layer or more")
        between("detector.input_height_px", self.input_height_px, 32, 2048, "pixels")
        between("detector.input_width_px", self.input_width_px, 32, 2048, "pixels")
        between("detector.smoothing_sigma", self.smoothing_sigma, 0.0, 16.0, "patches")
        between("detector.score_top_fraction", self.score_top_fraction, 0.0, 1.0)
        at_least("detector.batch_size", self.batch_size, 1)

    def _check_unread(self) -> None:
        """Refuses values that the chosen detector would not read."""
        foreign = self.name in {"maps", "anomalib"}
        require(
            not foreign or self.smoothing_sigma == 0,
            key="detector.smoothing_sigma",
            got=self.smoothing_sigma,
            allowed=f"0.0: detector={self.name} takes maps as they are",
        )
        transductive = self.musc is not None and self.musc.mode == "transductive"
        require(
            not (foreign or transductive) or not self.score_diffuse,
            key="detector.score_diffuse",
            got=self.score_diffuse,
            allowed=f"false for detector={self.name}, which has no left-out good images to measure by",
        )
        require(
            self.name != "anomalib" or self.num_folds >= 2,
            key="detector.num_folds",
            got=self.num_folds,
            allowed="2 or more: a trained detector is calibrated by folds",
        )
        require(
            self.name != "anomalib" or self.score_top_fraction == 0,
            key="detector.score_top_fraction",
            got=self.score_top_fraction,
            allowed="0.0: detector=anomalib brings its own score",
        )
