"""Settings for which images, and which role each plays."""

from dataclasses import dataclass
from typing import get_args

from velm_train.config.checks import at_least, between, inside, one_of, require
from velm_train.core.errors import ConfigError, DataError
from velm_train.datasets.protocol_settings import MultiLabel
from velm_train.datasets.protocols import PROTOCOLS
from velm_train.datasets.readers import READERS
from velm_train.datasets.split_files import read_split, split_path
from velm_train.datasets.texture_specs import PIECES_HW
from velm_train.instructions.formats.names import FORMAT_NAMES

TASKS = ("run", "train", "instruct", "detect", "preview", "audit", "synthesise", "fetch", "doctor")
EMBEDDED_READERS = ("textures", "textile")
READER_NAMES = ("textures", *READERS)


@dataclass(kw_only=True, slots=True)
class TaskConfig:
    """What to do.

    Attributes:
        name: how far to go: run (everything), train, instruct, detect; or preview, audit, synthesise, fetch, doctor.
        num_preview: samples that task=preview prints; 0 looks at the data alone, without detector and model.
        num_thumbnails: images of each category and type on the page of task=preview, 1 or more.
        export: formats that task=instruct writes its samples in for other trainers: anomaly_instruct, sharegpt,
            hf_datasets; each at most once.
    """

    name: str
    num_preview: int
    num_thumbnails: int
    export: list[str]

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("task.name", self.name, TASKS)
        at_least("task.num_preview", self.num_preview, 0)
        at_least("task.num_thumbnails", self.num_thumbnails, 1)
        for format_name in self.export:
            one_of("task.export", format_name, FORMAT_NAMES)
        require(len(set(self.export)) == len(self.export), key="task.export", got=self.export, allowed="each once")
        require(
            not self.export or self.name == "instruct",
            key="task.export",
            got=self.export,
            allowed="[] unless task=instruct, which alone exports",
        )


@dataclass(kw_only=True, slots=True)
class PathsConfig:
    """Folders; created when first written to.

    Attributes:
        assets: fetched weights and images, shared by all projects of a user.
        artifacts: finished stages, content-addressed, shared by all runs.
        outputs: one folder per run.
    """

    assets: str
    artifacts: str
    outputs: str

    def __post_init__(self) -> None:
        """Checks the values."""
        for key in ("assets", "artifacts", "outputs"):
            require(bool(getattr(self, key)), key=f"paths.{key}", got="''", allowed="a folder")


@dataclass(kw_only=True, slots=True)
class SynthesisConfig:
    """How the textures set is made; only for `dataset.reader=textures`.

    Attributes:
        height_px: image height, 64 to 1024 pixels.
        width_px: image width, 64 to 1024 pixels.
        train_good: normal training images per category, 2 or more; each shows a piece of its own.
        test_good: normal test images per category, 1 or more; together with train_good at most 30, as many pieces as a
            photograph has.
        defects_seen: images per defect type in seen categories, 2 or more; half of them (rounded up) show training
            pieces.
        defects_unseen: images per defect type in unseen categories, 1 or more.
        seed: of the images, 0 or more; apart from the run's seed, so that runs with several seeds share one set.
    """

    height_px: int
    width_px: int
    train_good: int
    test_good: int
    defects_seen: int
    defects_unseen: int
    seed: int

    def __post_init__(self) -> None:
        """Checks the values."""
        between("dataset.synthesis.height_px", self.height_px, 64, 1024, "pixels")
        between("dataset.synthesis.width_px", self.width_px, 64, 1024, "pixels")
        at_least("dataset.synthesis.train_good", self.train_good, 2, "images")
        at_least("dataset.synthesis.test_good", self.test_good, 1, "images")
        at_least("dataset.synthesis.defects_seen", self.defects_seen, 2, "images")
        at_least("dataset.synthesis.defects_unseen", self.defects_unseen, 1, "images")
        between(
            "dataset.synthesis.train_good + dataset.synthesis.test_good",
            self.train_good + self.test_good,
            3,
            PIECES_HW[0] * PIECES_HW[1],
            "images, one for each piece of a photograph",
        )
        at_least("dataset.synthesis.seed", self.seed, 0)


@dataclass(kw_only=True, slots=True)
class DatasetConfig:
    """Which images.

    Attributes:
        name: used in image ids and reports.
        reader: the layout on disk; textures and textile are made from fetched assets, all others read `root`.
        root: dataset folder (or CSV/JSONL file for table); must be null for the embedded readers.
        categories: categories to use; empty means all.
        unseen_categories: categories that training never sees.
        taxonomy: file name in data/taxonomies without .json, a path, or null to derive names from the folders.
        on_bad_file: refuse stops at an image or mask that cannot be used; exclude leaves it out and says so.
        synthesis: how the textures set is made, or null.
    """

    name: str
    reader: str
    root: str | None
    categories: list[str]
    unseen_categories: list[str]
    taxonomy: str | None
    on_bad_file: str
    synthesis: SynthesisConfig | None

    def __post_init__(self) -> None:
        """Checks the values."""
        require(bool(self.name), key="dataset.name", got="''", allowed="a name")
        one_of("dataset.reader", self.reader, READER_NAMES)
        one_of("dataset.on_bad_file", self.on_bad_file, ("refuse", "exclude"))
        embedded = self.reader in EMBEDDED_READERS
        require(
            embedded or self.root is not None,
            key="dataset.root",
            got=self.root,
            allowed="a folder, for example dataset.root=/data/mvtec",
        )
        require(not embedded or self.root is None, key="dataset.root", got=self.root, allowed=f"null ({self.reader})")
        textures = self.reader == "textures"
        require(
            textures == (self.synthesis is not None),
            key="dataset.synthesis",
            got="null" if self.synthesis is None else "set",
            allowed="set for dataset.reader=textures, null otherwise",
        )
        unknown = set(self.unseen_categories) - set(self.categories)
        if self.categories and unknown:
            raise ConfigError(f"dataset.unseen_categories names {sorted(unknown)}, which dataset.categories lacks")


@dataclass(kw_only=True, slots=True)
class ProtocolConfig:
    """Which image plays which role.

    Attributes:
        name: zero_shot (P0), k_shot (P1), half (P2), leave_category_out (P3), cross_dataset (P4), leave_type_out (P5).
        k_shot: labelled defects per type and seen category used for training: 1 or more for k_shot and
            leave_type_out; 0 for all or more for leave_category_out and cross_dataset; zero_shot and half do not use
            it.
        validation_per_type: further ones kept for calibration of answers, 0 or more.
        reference_normals: normals per category kept as references, 0 or more.
        max_train_normals: normals per category that the detector is fitted on, 0 for all.
        max_test_per_type: test images per category and type, 0 for all.
        test_normal_fraction: share of the normals held out for testing where the set has no test normals, above 0,
            below 1.
        calibration_fraction: share of training normals held out to calibrate the gate; 0 means leave-one-out.
        multi_label: what becomes of an image of several types: leave_out, or joint for a type of its own.
        fold: which part leave_category_out or leave_type_out leaves out, 0 to num_folds - 1.
        num_folds: parts that the categories, or a category's types, are dealt to, 2 or more.
        train_dataset: option of conf/dataset that cross_dataset trains on (`dataset` is tested); null for the others.
        train_root: folder of train_dataset; null for an embedded one.
        published: split in data/splits without .json, such as visa_ac/p1_k4_seed0, whose k_shot, fold and seed then
            hold; null to draw one with the run's seed.
    """

    name: str
    k_shot: int
    validation_per_type: int
    reference_normals: int
    max_train_normals: int
    max_test_per_type: int
    test_normal_fraction: float
    calibration_fraction: float
    multi_label: str
    fold: int
    num_folds: int
    train_dataset: str | None
    train_root: str | None
    published: str | None

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("protocol.name", self.name, tuple(PROTOCOLS))
        fewest = 1 if self.name in {"k_shot", "leave_type_out"} else 0
        at_least("protocol.k_shot", self.k_shot, fewest, "images per type")
        for key in ("validation_per_type", "reference_normals", "max_train_normals", "max_test_per_type"):
            at_least(f"protocol.{key}", getattr(self, key), 0)
        inside("protocol.test_normal_fraction", self.test_normal_fraction, 0.0, 1.0)
        between("protocol.calibration_fraction", self.calibration_fraction, 0.0, 0.9)
        one_of("protocol.multi_label", self.multi_label, get_args(MultiLabel))
        at_least("protocol.num_folds", self.num_folds, 2)
        between("protocol.fold", self.fold, 0, self.num_folds - 1)
        self._check_train_dataset()
        if self.published is not None:
            self._check_published(self.published)

    def _check_train_dataset(self) -> None:
        crosses = self.name == "cross_dataset"
        require(
            crosses == (self.train_dataset is not None),
            key="protocol.train_dataset",
            got=self.train_dataset,
            allowed="a data set of conf/dataset, for example protocol.train_dataset=mvtec_ac"
            if crosses
            else "null, because only protocol=cross_dataset trains on another data set",
        )
        embedded = self.train_dataset is None or self.train_dataset in EMBEDDED_READERS
        require(
            embedded == (self.train_root is None),
            key="protocol.train_root",
            got=self.train_root,
            allowed=f"null ({self.train_dataset or 'no train_dataset'})"
            if embedded
            else "a folder, for example protocol.train_root=/data/mvtec",
        )

    def _check_published(self, published: str) -> None:
        try:
            made_by = read_split(split_path(published)).protocol
        except DataError as error:
            raise ConfigError(
                f"protocol.published={published} is not possible; allowed: a split in data/splits: {error}"
            ) from error
        require(
            self.name == made_by,
            key="protocol.name",
            got=self.name,
            allowed=f"{made_by}, which protocol.published={published} is a split of",
        )
        require(
            self.validation_per_type == 0,
            key="protocol.validation_per_type",
            got=self.validation_per_type,
            allowed="0, because published splits have no validation images",
        )
