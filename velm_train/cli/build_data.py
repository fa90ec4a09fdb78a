"""Checked settings in, data and detector objects out: plain branches, one function a group, no dotted-path magic."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from velm_train.assets.library import AssetLibrary
from velm_train.cli.compose import load_config
from velm_train.cli.read_data import unseen_categories
from velm_train.config import Config
from velm_train.config.data import DatasetConfig
from velm_train.config.protocol import ProtocolConfig
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.errors import ConfigError
from velm_train.core.hashing import sha256_json
from velm_train.core.progress import Progress
from velm_train.core.records import ImageRecord
from velm_train.core.taxonomy import Taxonomy, derive_taxonomy, read_taxonomy
from velm_train.datasets.manifests import SplitManifest
from velm_train.datasets.protocol_settings import MultiLabel, ProtocolSettings
from velm_train.datasets.protocols import PROTOCOLS
from velm_train.datasets.published_splits import published_manifest
from velm_train.datasets.split_files import split_path
from velm_train.datasets.taxonomies import found_types, taxonomy_path

NO_PART_OF_A_RUN = frozenset(
    {
        "rehearsal",
        "paths",
        "task",
        "runs",
        "compare",
        "predictions",
        "score",
        "ckpt",
        "ckpt_path",
        "input",
        "category",
        "predict",
        "export",
    }
)
"""Settings that change nothing about a run: a mark, folders, and what tasks about finished runs read."""


def make_assets(config: Config, *, progress: Progress) -> AssetLibrary:
    """Returns the library of pinned weights and images."""
    return AssetLibrary(Path(config.paths.assets).expanduser(), progress=progress)


def make_store(config: Config, *, progress: Progress, patience_s: float = 0.0) -> ArtifactStore:
    """Returns the store of finished stages; see there for `patience_s`."""
    return ArtifactStore(Path(config.paths.artifacts).expanduser(), progress=progress, patience_s=patience_s)


def train_dataset(protocol: ProtocolConfig) -> DatasetConfig | None:
    """Returns the settings of the data set that cross_dataset trains on; None for other protocols.

    Raises:
        ConfigError: if there is no such data set.
    """
    name, root = protocol.train_dataset, protocol.train_root
    if name is None:
        return None
    return load_config([f"dataset={name}", *([] if root is None else [f"dataset.root={root}"])]).dataset


def datasets_of(config: Config) -> tuple[DatasetConfig, ...]:
    """Returns the settings of every data set that a run reads: its own, and for cross_dataset the one trained on.

    Raises:
        ConfigError: if both have one name.
    """
    other = train_dataset(config.protocol)
    if other is None:
        return (config.dataset,)
    if other.name == config.dataset.name:
        raise ConfigError(
            f"dataset.name={other.name} is not possible; allowed: another name than that of "
            f"protocol.train_dataset={config.protocol.train_dataset}"
        )
    return (config.dataset, other)


def make_taxonomy(dataset: DatasetConfig, records: Sequence[ImageRecord]) -> Taxonomy:
    """Reads the dataset's taxonomy and compares it with what is on disk, or derives one from the folder names.

    Raises:
        DataError: if they do not match.
    """
    found = found_types(records)
    if dataset.taxonomy is None:
        return derive_taxonomy(dataset.name, found)
    is_path = dataset.taxonomy.endswith(".json")
    taxonomy = read_taxonomy(Path(dataset.taxonomy).expanduser() if is_path else taxonomy_path(dataset.taxonomy))
    return taxonomy.fitted(found)


def joint_taxonomy(datasets: Sequence[DatasetConfig], records: Sequence[ImageRecord]) -> Taxonomy:
    """Returns the taxonomy of all data sets that a run reads, under the name of the first.

    Raises:
        DataError: if one does not match its images.
    """
    parts = [make_taxonomy(one, [record for record in records if record.dataset == one.name]) for one in datasets]
    categories = {category: body for part in reversed(parts) for category, body in part.categories.items()}
    return Taxonomy(dataset=parts[0].dataset, categories=categories)


def make_manifest(config: Config, *, records: Sequence[ImageRecord]) -> SplitManifest:
    """Gives every image its role: by the protocol's rule, or as the published split says.

    Raises:
        DataError: if a category has too few images, a leak is found, or the images do not fit the published split.
    """
    protocol, other = config.protocol, train_dataset(config.protocol)
    settings = ProtocolSettings(
        k_shot=protocol.k_shot,
        unseen_categories=unseen_categories(config.dataset),
        num_reference=protocol.reference_normals,
        num_validation_per_type=protocol.validation_per_type,
        max_normals=protocol.max_train_normals,
        max_test_per_type=protocol.max_test_per_type,
        calibration_fraction=protocol.calibration_fraction,
        test_normal_fraction=protocol.test_normal_fraction,
        multi_label=cast("MultiLabel", protocol.multi_label),
        fold=protocol.fold,
        num_folds=protocol.num_folds,
        train_dataset=None if other is None else other.name,
    )
    if protocol.published is None:
        return PROTOCOLS[protocol.name](records, settings, seed=config.seed)
    return published_manifest(
        records,
        settings,
        split_file=split_path(protocol.published),
        categories=sorted({record.category for record in records}) if config.dataset.categories else (),
        pins=Path(config.paths.artifacts).expanduser() / "splits",
    )


def label_sets(taxonomy: Taxonomy, records: Sequence[ImageRecord]) -> dict[str, list[str]]:
    """Returns each category's fixed list of defect types for the scoreboard."""
    used = sorted({record.category for record in records})
    return {category: sorted(taxonomy.categories[category].defect_types) for category in used}


def config_hash(config: Config) -> str:
    """Returns the hash of every setting that a run depends on: not the folders, not what other tasks read."""
    body = dataclasses.asdict(config)
    return sha256_json({name: body[name] for name in body if name not in NO_PART_OF_A_RUN})
