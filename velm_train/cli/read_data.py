"""Settings of a data set in, the records of its images out; embedded and hub data sets are made into files first."""

import dataclasses
import os
from pathlib import Path
from typing import cast

from velm_train.assets.library import AssetLibrary
from velm_train.config.data import DatasetConfig, HuggingFaceConfig, SynthesisConfig
from velm_train.core.artifacts import ArtifactStore, StageKey
from velm_train.core.progress import Progress
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.found import Found
from velm_train.datasets.generic import find_table
from velm_train.datasets.indexing import Indexed, OnBadFile, index_images
from velm_train.datasets.mvtec_style import find_mvtec_style
from velm_train.datasets.readers import READERS
from velm_train.datasets.texture_specs import SEEN_TEXTURES, UNSEEN_TEXTURES
from velm_train.datasets.textures import TEXTURES_VERSION, TextureCounts, make_textures


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
    elif dataset.huggingface is not None:
        found = _find_huggingface(dataset, dataset.huggingface, store=store, progress=progress)
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


def _find_huggingface(
    dataset: DatasetConfig, columns: HuggingFaceConfig, *, store: ArtifactStore, progress: Progress
) -> Found:
    """Unpacks a Hugging Face data set into files once, and finds those."""
    from velm_train.datasets.huggingface import (
        HUGGINGFACE_VERSION,
        TABLE_NAME,
        HuggingFaceColumns,
        fingerprint,
        materialise_huggingface,
    )

    assert dataset.root is not None
    source = dataset.root
    key = StageKey(
        stage="huggingface",
        version=HUGGINGFACE_VERSION,
        inputs={"data": fingerprint(source, subset=columns.subset)},
        settings=dataclasses.asdict(columns),
    )

    def build(folder: Path) -> None:
        materialise_huggingface(
            source,
            subset=columns.subset,
            columns=HuggingFaceColumns(
                image=columns.image,
                defect_type=columns.defect_type,
                category=columns.category,
                mask=columns.mask,
                group=columns.group,
            ),
            category=columns.single_category,
            normal_labels=columns.normal_labels,
            out=folder,
            progress=progress,
        )

    folder = store.get_or_build(key, build, title=f"files of {source}")
    return find_table(folder / TABLE_NAME, categories=dataset.categories)


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
