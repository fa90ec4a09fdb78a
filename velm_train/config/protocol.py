"""Settings for which image plays which role."""

from dataclasses import dataclass
from typing import get_args

from velm_train.config.checks import at_least, between, inside, one_of, require
from velm_train.config.data import EMBEDDED_READERS
from velm_train.core.errors import ConfigError, DataError
from velm_train.datasets.protocol_settings import MultiLabel
from velm_train.datasets.protocols import PROTOCOLS
from velm_train.datasets.split_files import read_split, split_path


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
