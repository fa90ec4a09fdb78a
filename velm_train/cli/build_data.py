"""Checked settings in, data and detector objects out: plain branches, one function a group, no dotted-path magic."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch

from velm_train.assets.library import AssetLibrary
from velm_train.backbones.load import load_backbone
from velm_train.config import Config
from velm_train.config.data import DatasetConfig, ProtocolConfig, SynthesisConfig
from velm_train.core.artifacts import ArtifactStore, StageKey
from velm_train.core.hashing import sha256_json
from velm_train.core.progress import Progress
from velm_train.core.records import ImageRecord
from velm_train.core.taxonomy import Taxonomy, derive_taxonomy, read_taxonomy
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import Indexed, OnBadFile, index_images
from velm_train.datasets.mvtec_style import find_mvtec_style
from velm_train.datasets.protocols import SplitManifest, k_shot_manifest
from velm_train.datasets.readers import READERS
from velm_train.datasets.taxonomies import found_types, taxonomy_path
from velm_train.datasets.texture_specs import SEEN_TEXTURES, UNSEEN_TEXTURES
from velm_train.datasets.textures import TEXTURES_VERSION, TextureCounts, make_textures
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.protocol import Detector
from velm_train.detectors.settings import PatchCoreSettings

PROTOCOLS = {"k_shot": k_shot_manifest}
"""`protocol.name` -> what gives the images their roles."""


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
    taxonomy.validate(found)
    return taxonomy


def make_manifest(
    protocol: ProtocolConfig, *, records: Sequence[ImageRecord], unseen: Sequence[str], seed: int
) -> SplitManifest:
    """Gives every image its role.

    Raises:
        DataError: if a category has too few images, or a leak is found.
    """
    return PROTOCOLS[protocol.name](
        records,
        k_shot=protocol.k_shot,
        unseen_categories=unseen,
        num_reference=protocol.reference_normals,
        num_validation_per_type=protocol.validation_per_type,
        max_normals=protocol.max_train_normals,
        max_test_per_type=protocol.max_test_per_type,
        calibration_fraction=protocol.calibration_fraction,
        test_normal_fraction=protocol.test_normal_fraction,
        seed=seed,
    )


def make_detector(config: Config, *, assets: AssetLibrary) -> Callable[[], Detector]:
    """Returns a maker of fresh detectors that share one backbone."""
    detector = config.detector
    device = torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")
    backbone = load_backbone(detector.backbone, assets=assets, device=device)
    settings = PatchCoreSettings(
        layers=tuple(detector.layers),
        input_hw=(detector.input_height_px, detector.input_width_px),
        coreset_fraction=detector.coreset_fraction,
        max_patches=detector.max_bank_patches,
        smoothing_sigma=detector.smoothing_sigma,
        score_top_fraction=detector.score_top_fraction,
        score_diffuse=detector.score_diffuse,
        reweight=detector.reweight,
        num_neighbours=detector.num_neighbours,
        seed=config.seed,
        half_precision=detector.half_precision,
    )
    return lambda: PatchCore(backbone, settings, device=device, batch_size=detector.batch_size)


def label_sets(taxonomy: Taxonomy, records: Sequence[ImageRecord]) -> dict[str, list[str]]:
    """Returns each category's fixed list of defect types for the scoreboard."""
    used = sorted({record.category for record in records})
    return {category: sorted(taxonomy.categories[category].defect_types) for category in used}


def config_hash(config: Config) -> str:
    """Returns the hash of every setting but the folders and the task."""
    body = dataclasses.asdict(config)
    return sha256_json({name: body[name] for name in body if name not in {"paths", "task"}})
