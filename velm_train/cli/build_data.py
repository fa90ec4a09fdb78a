"""Checked settings in, data and detector objects out: plain branches, one function a group, no dotted-path magic."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from velm_train.assets.library import AssetLibrary
from velm_train.cli.compose import load_config
from velm_train.config import Config
from velm_train.config.data import DatasetConfig, ProtocolConfig, SynthesisConfig
from velm_train.core.artifacts import ArtifactStore, StageKey
from velm_train.core.errors import ConfigError
from velm_train.core.hashing import sha256_json
from velm_train.core.progress import Progress
from velm_train.core.records import ImageRecord
from velm_train.core.taxonomy import Taxonomy, derive_taxonomy, read_taxonomy
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import Indexed, OnBadFile, index_images
from velm_train.datasets.manifests import SplitManifest
from velm_train.datasets.mvtec_style import find_mvtec_style
from velm_train.datasets.protocol_settings import MultiLabel, ProtocolSettings
from velm_train.datasets.protocols import PROTOCOLS
from velm_train.datasets.published_splits import published_manifest
from velm_train.datasets.readers import READERS
from velm_train.datasets.split_files import split_path
from velm_train.datasets.taxonomies import found_types, taxonomy_path
from velm_train.datasets.texture_specs import SEEN_TEXTURES, UNSEEN_TEXTURES
from velm_train.datasets.textures import TEXTURES_VERSION, TextureCounts, make_textures


def make_assets(config: Config, *, progress: Progress) -> AssetLibrary:
    """Returns the library of pinned weights and images."""
    return AssetLibrary(Path(config.paths.assets).expanduser(), progress=progress)


def make_store(config: Config, *, progress: Progress) -> ArtifactStore:
    """Returns the store of finished stages."""
    return ArtifactStore(Path(config.paths.artifacts).expanduser(), progress=progress)


def unseen_categories(dataset: DatasetConfig) -> tuple[str, ...]:
    """Returns the categories that training never sees; the textures set brings its own list."""
    if dataset.reader == "textures" and not dataset.unseen_categories:
        return tuple(name for name in UNSEEN_TEXTURES if not dataset.categories or name in dataset.categories)
    return tuple(dataset.unseen_categories)


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


def read_records(dataset: DatasetConfig, *, assets: AssetLibrary, store: ArtifactStore, progress: Progress) -> Indexed:
    """Reads the dataset, making or fetching it first where it is an embedded one.

    Raises:
        DataError: if the folder is not as it has to be.
        AssetError: if an embedded set cannot be fetched.
    """
    if dataset.reader == "textures":
        root = _textures_folder(dataset, assets=assets, store=store, progress=progress)
        found = find_mvtec_style(root, categories=())
    elif dataset.reader == "textile":
        found = READERS["textile"](assets.ensure("textile_images"), categories=dataset.categories)
    else:
        assert dataset.root is not None
        found = READERS[dataset.reader](Path(dataset.root).expanduser(), categories=dataset.categories)
    return index_images(
        found,
        dataset=dataset.name,
        index=make_file_index(store),
        on_bad_file=cast("OnBadFile", dataset.on_bad_file),
        progress=progress,
    )


def make_file_index(store: ArtifactStore) -> FileIndex:
    """Returns what remembers hashes and sizes of image files between runs."""
    return FileIndex(store.root / "file_index.sqlite", num_threads=os.cpu_count() or 1)


def _textures_folder(dataset: DatasetConfig, *, assets: AssetLibrary, store: ArtifactStore, progress: Progress) -> Path:
    synthesis = cast("SynthesisConfig", dataset.synthesis)
    unseen = unseen_categories(dataset)
    seen = [name for name in dataset.categories or SEEN_TEXTURES if name not in unseen]
    counts = TextureCounts(
        train_good=synthesis.train_good,
        test_good=synthesis.test_good,
        defects_seen=synthesis.defects_seen,
        defects_unseen=synthesis.defects_unseen,
    )
    size_hw = (synthesis.height_px, synthesis.width_px)
    photos = assets.ensure("material_photos") / "images"
    key = StageKey(
        stage="textures",
        version=TEXTURES_VERSION,
        inputs={"photos": [status.source for status in assets.status() if status.name == "material_photos"]},
        settings={"seen": seen, "unseen": unseen, "size_hw": size_hw, "counts": counts, "seed": synthesis.seed},
    )

    def build(folder: Path) -> None:
        make_textures(
            folder,
            photos=photos,
            seen=seen,
            unseen=unseen,
            size_hw=size_hw,
            counts=counts,
            seed=synthesis.seed,
            progress=progress,
        )

    return store.get_or_build(key, build, title="textures set")


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
    """Returns the hash of every setting but the folders and the task."""
    body = dataclasses.asdict(config)
    return sha256_json({name: body[name] for name in body if name not in {"paths", "task"}})
