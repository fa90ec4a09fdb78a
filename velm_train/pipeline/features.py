"""Views in; what the frozen vision towers say about them out, computed once and memory-mapped afterwards, or live.

Exact by construction: the towers are frozen and a view is fixed by its pixels, so an epoch, a run and a sweep job
read the same numbers, in the type that the model names. The anomaly map is pooled to the tokens of every tile, in
units of the category's pixel threshold. `feature_files` says how it lies on disk, `live_features` encodes what is
not on disk.

Ground truth on the token grid is no part of the artefacts: it is pooled each time, and only for a run that is told to
read it (`MapSource.gt_record`), so that nothing that others reuse has seen a mask.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float

from velm_train.collation.collate import ViewFeatures
from velm_train.core.artifacts import ArtifactStore, StageKey, naming_full_disk, require_free_disk, write_atomic
from velm_train.core.errors import DiskFullError
from velm_train.core.hashing import sha256_json
from velm_train.core.progress import Advance, Progress
from velm_train.core.records import View
from velm_train.pipeline.cache_choice import FeatureCache
from velm_train.pipeline.feature_files import FeatureFile, FeatureWriter
from velm_train.pipeline.live_features import LiveFeatures, ViewEncoder
from velm_train.pipeline.views import MapSource, view_key

FEATURES_VERSION = 2
_SECONDS_NAME = "seconds.json"

logger = logging.getLogger(__name__)


class FeatureReader:
    """Looks up a view's features in the memory-mapped artefacts; encodes a view that is in none of them."""

    def __init__(self, folders: Sequence[Path], *, live: LiveFeatures | None = None) -> None:
        """Opens the artefacts; features are not read until asked for.

        Args:
            folders: of the artefacts.
            live: encodes all other views; None to refuse them.
        """
        self._files = [FeatureFile(folder) for folder in folders]
        self._places = {key: number for number, file in enumerate(self._files) for key in file.keys}
        self._seconds: list[float] = [
            json.loads((folder / _SECONDS_NAME).read_text())["seconds_per_view"] for folder in folders
        ]
        self._live = live
        self._gt_scores: dict[str, Float[torch.Tensor, "T N"]] = {}

    def read_ground_truth(self, views: Sequence[View], map_sources: Mapping[str, MapSource]) -> None:
        """Pools the masks of those images whose source gives leave to read them.

        Args:
            views: whose features are to carry ground truth.
            map_sources: image_id -> source.
        """
        for view in views:
            key = view_key(view)
            source = map_sources[view.image_id]
            if key not in self._gt_scores and source.gt_record is not None:
                scores = source.gt_scores(view, self(view))
                assert scores is not None, "a source with a record gives scores"
                self._gt_scores[key] = scores

    @property
    def gt_identity(self) -> str | None:
        """Hash of the ground truth that the views carry, for the keys of what is learned from it; None without."""
        if not self._gt_scores:
            return None
        return sha256_json({key: scores.numpy().tobytes().hex() for key, scores in sorted(self._gt_scores.items())})

    def seconds(self, view: View) -> float:
        """Returns the wall seconds that rendering and encoding one such view took, when it was computed.

        Raises:
            KeyError: as a call.
        """
        key = view_key(view)
        if key not in self._places and self._live is not None:
            return self._live.seconds_per_view(view)
        return self._seconds[self._places[key]]

    def ahead(self, views: Sequence[View]) -> Callable[[View], ViewFeatures]:
        """Returns what looks up these views, after encoding together those that are not on disk."""
        if self._live is None:
            return self
        encoded = self._live.of([view for view in views if view_key(view) not in self._places])
        return lambda view: encoded[view_key(view)] if view_key(view) in encoded else self(view)

    def __call__(self, view: View) -> ViewFeatures:
        """Returns one view's features.

        Raises:
            KeyError: if the view was not among those the artefacts were made for, and nothing encodes others.
        """
        key = view_key(view)
        if key not in self._places and self._live is not None:
            return self._live.of([view])[key]
        features = self._files[self._places[key]](key)
        if key not in self._gt_scores:
            return features
        return dataclasses.replace(features, gt_scores=self._gt_scores[key])


def ground_truth_of(features: FeatureReader) -> dict[str, str]:
    """Returns what a key must name besides the material if something is learned from masks; empty otherwise."""
    return {} if features.gt_identity is None else {"ground truth": features.gt_identity}


def build_features(
    *,
    store: ArtifactStore,
    views: Mapping[str, Sequence[View]],
    encoder: ViewEncoder,
    cache: FeatureCache,
    progress: Progress,
    any_view: bool = False,
) -> FeatureReader:
    """Runs the frozen towers over every distinct view, one artefact per named set; or leaves that to the reader.

    Where the disk fills all the same, what was begun is removed, and the reader encodes the views of that set and of
    those that follow whenever they are asked for. A damaged artefact is made anew.

    Args:
        store: where the artefacts lie.
        views: name of a set, such as a category and a role, -> its views; repeated views are computed once.
        encoder: used only if something has to be computed.
        cache: "auto" stores nothing new if the disk has no room for all of it; "off" neither stores nor reads.
        progress: shows one bar over all views.
        any_view: True to let the reader encode views that are not among these, such as mirrored ones.

    Raises:
        DiskFullError: if the disk has no room and `cache` is "on".
    """
    sets = _sets_of(views, encoder=encoder)
    folders = [] if cache == "off" else _stored(sets, store=store, encoder=encoder, cache=cache, progress=progress)
    needs_live = any_view or len(folders) < len(sets)
    reader = FeatureReader(folders, live=LiveFeatures(encoder) if needs_live else None)
    reader.read_ground_truth([view for members in views.values() for view in members], encoder.map_sources)
    return reader


@dataclass(frozen=True, kw_only=True, slots=True)
class _FeatureSet:
    """The views of one artefact, by key, and the artefact's own."""

    name: str
    views: Mapping[str, View]
    key: StageKey


def _sets_of(views: Mapping[str, Sequence[View]], *, encoder: ViewEncoder) -> list[_FeatureSet]:
    distinct = {name: {view_key(view): view for view in members} for name, members in sorted(views.items())}
    return [
        _FeatureSet(name=name, views=members, key=_stage_key(name, members, encoder=encoder))
        for name, members in distinct.items()
        if members
    ]


def _stage_key(name: str, views: Mapping[str, View], *, encoder: ViewEncoder) -> StageKey:
    sources = {view.image_id: encoder.map_sources[view.image_id] for view in views.values()}
    maps = {
        image_id: [source.detection.detector_hash, source.gate.pixel_threshold] for image_id, source in sources.items()
    }
    return StageKey(
        stage="features",
        version=FEATURES_VERSION,
        inputs={"set": name, "views": list(views), "maps": maps},
        settings={"evidence": encoder.tower.evidence_identity, "contour_width_px": encoder.contour_width_px},
    )


def _have_room(
    missing: Sequence[_FeatureSet],
    *,
    store: ArtifactStore,
    encoder: ViewEncoder,
    cache: FeatureCache,
    progress: Progress,
) -> bool:
    """Tells whether the features of all views fit on the disk, before the first is written."""
    needed_bytes = encoder.stored_bytes([view for one in missing for view in one.views.values()])
    try:
        require_free_disk(store.root, needed_bytes=needed_bytes)
    except DiskFullError as error:
        if cache == "on":
            raise
        progress.note(f"features are not stored, and views encoded anew whenever they are shown: {error}")
        return False
    return True


def _stored(
    sets: Sequence[_FeatureSet],
    *,
    store: ArtifactStore,
    encoder: ViewEncoder,
    cache: FeatureCache,
    progress: Progress,
) -> list[Path]:
    """Returns the folders of the artefacts, all of them unless the disk has no room or fills."""
    missing = [one for one in sets if not store.has(one.key)]
    have_room = not missing or _have_room(missing, store=store, encoder=encoder, cache=cache, progress=progress)
    folders: list[Path] = []
    with progress.stage("encode views", total=sum(len(one.views) for one in sets)) as advance:
        for one in sets:
            if not have_room and not store.has(one.key):
                continue
            builder = _FeatureBuilder(views=one.views, encoder=encoder, advance=advance)
            try:
                title = f"features of {one.name}"
                folders.append(store.get_or_build(one.key, builder, title=title, disposable=True))
            except DiskFullError as error:
                have_room = False
                logger.warning("features of %s are not stored, views are encoded whenever shown: %s", one.name, error)
    return folders


@dataclass(frozen=True, kw_only=True, slots=True)
class _FeatureBuilder:
    """Fills one artefact folder."""

    views: Mapping[str, View]
    encoder: ViewEncoder
    advance: Advance

    def __call__(self, folder: Path) -> None:
        started = time.perf_counter()
        encoded = self.encoder.encode(self.views, on_chunk=self.advance)
        with naming_full_disk(folder), FeatureWriter(folder, dtype=self.encoder.tower.feature_dtype) as writer:
            for number, (key, features) in enumerate(encoded):
                writer.append(key, features)
                missing = len(self.views) - number - 1
                require_free_disk(folder, needed_bytes=writer.num_bytes * missing // (number + 1))
        seconds = (time.perf_counter() - started) / len(self.views)
        write_atomic(folder / _SECONDS_NAME, json.dumps({"seconds_per_view": seconds}))
