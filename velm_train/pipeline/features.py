"""Views in; what the frozen vision towers say about them out, computed once and memory-mapped afterwards.

Exact by construction: the towers are frozen and a view is fixed by its pixels, so an epoch, a run and a sweep job
read the same numbers, in the type that the model names. The anomaly map is pooled to the tokens of every tile, in
units of the category's pixel threshold. `feature_files` says how it lies on disk.

Ground truth on the token grid is no part of the artefacts: it is pooled each time, and only for a run that is told to
read it (`MapSource.gt_record`), so that nothing that others reuse has seen a mask.
"""

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8

from velm_train.collation.collate import ViewFeatures, split_views
from velm_train.core.artifacts import ArtifactStore, StageKey, require_free_disk, write_atomic
from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.images import cut_out, read_gt_masks, read_rgb
from velm_train.core.progress import Advance, Progress
from velm_train.core.records import Detection, ImageRecord, SizeHW, View
from velm_train.core.shapes import AnomalyMap, RGBImage
from velm_train.gating.gate import CalibratedGate
from velm_train.pipeline.feature_files import FeatureFile, FeatureWriter
from velm_train.regions.overlay import WHOLE_BOX, draw_contour, pool_map

FEATURES_VERSION = 2
_SECONDS_NAME = "seconds.json"


@runtime_checkable
class ViewEncoder(Protocol):
    """What is frozen and looks at views: a vision-language model's tower, or a detector's backbone."""

    @property
    def evidence_identity(self) -> str:
        """Hash of what `encode_views` depends on."""
        ...

    @property
    def feature_dtype(self) -> torch.dtype:
        """The type that keeps the features on disk."""
        ...

    def encode_views(self, views: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> VisionEvidence:
        """Returns what it says about pictures of any size; `map_scores` are zero."""
        ...


def view_key(view: View) -> str:
    """Returns a hash of everything that shapes a view's pixels."""
    return sha256_json([view.sha256, list(view.box_xyxy), view.contour.tolist()])


def render_view(view: View, *, contour_width_px: int) -> RGBImage:
    """Returns the picture the model is shown: the image, its contour if the view has one, the part in the box."""
    image = read_rgb(view.image_path)
    if len(view.contour):
        image = draw_contour(image, view.contour, width_px=contour_width_px)
    return cut_out(image, view.box_xyxy)


@dataclass(frozen=True, kw_only=True, slots=True)
class MapSource:
    """Where a view's map scores come from.

    Attributes:
        detection: of the image the view is cut from.
        gate: of its category; its pixel threshold is the unit.
        gt_record: the image's record if its ground-truth masks may be read: for the control row "oracle", whose every
            figure is marked so, and for mask supervision of training images. None in every other run.
    """

    detection: Detection
    gate: CalibratedGate
    gt_record: ImageRecord | None = None

    def __post_init__(self) -> None:
        """Refuses a map that knows the image.

        The language model learns how far to trust the map from training images, so their maps must be as good as
        those of new images and no better.

        Raises:
            DataError: if the image had a part in what it was scored against.
        """
        if not self.detection.out_of_sample:
            raise DataError(
                f"{self.detection.image_id}: the detector was fitted on this image, so its map looks more certain than "
                "that of a new one; score it by the detector's out_of_sample()"
            )

    def scores(self, view: View, features: ViewFeatures) -> Float[torch.Tensor, "T N"]:
        """Returns the anomaly map averaged over each visual token, 1 at the pixel threshold, 0 beyond a tile's grid.

        Args:
            view: what the features are of.
            features: say where the tiles lie.
        """
        pooled = _pooled(self.detection.anomaly_map, self.detection.image_size_hw, view, features)
        return torch.from_numpy((pooled / self.gate.pixel_threshold).astype(np.float32))

    def gt_scores(self, view: View, features: ViewFeatures) -> Float[torch.Tensor, "T N"] | None:
        """Returns the share of each visual token's area that is defect.

        None if the masks may not be read; NaN everywhere for a defect that nobody has outlined.
        """
        record = self.gt_record
        if record is None:
            return None
        if record.gt_label and not record.gt_mask_paths:
            return torch.full(features.valid.shape, torch.nan)
        gt_mask = read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw)
        return torch.from_numpy(_pooled(gt_mask.astype(np.float32), record.size_hw, view, features))


def _pooled(values: AnomalyMap, image_size_hw: SizeHW, view: View, features: ViewFeatures) -> Float[np.ndarray, "T N"]:
    """Averages values that lie on an image over the tokens of each tile of a view, row-major, zeros behind them."""
    pooled = np.zeros(features.valid.shape, dtype=np.float32)
    boxes = None if features.tile_xyxy is None else features.tile_xyxy.tolist()
    for tile, (rows, columns) in enumerate(features.grid_hw.tolist()):
        tile_xyxy = WHOLE_BOX if boxes is None else tuple(boxes[tile])
        means = pool_map(values, image_size_hw, view.box_xyxy, (rows, columns), tile_xyxy=tile_xyxy)
        pooled[tile, : rows * columns] = means.reshape(-1)
    return pooled


class FeatureReader:
    """Looks up a view's features in the memory-mapped artefacts."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Opens the artefacts; features are not read until asked for.

        Args:
            folders: of the artefacts.
        """
        self._files = [FeatureFile(folder) for folder in folders]
        self._places = {key: number for number, file in enumerate(self._files) for key in file.keys}
        self._seconds: list[float] = [
            json.loads((folder / _SECONDS_NAME).read_text())["seconds_per_view"] for folder in folders
        ]
        self._gt_scores: dict[str, Float[torch.Tensor, "T N"]] = {}

    def read_ground_truth(self, views: Sequence[View], map_sources: Mapping[str, MapSource]) -> None:
        """Pools the masks of those images whose source gives leave to read them.

        Args:
            views: whose features are to carry ground truth.
            map_sources: image_id -> source.
        """
        for view in views:
            key = view_key(view)
            if key not in self._gt_scores:
                scores = map_sources[view.image_id].gt_scores(view, self(view))
                self._gt_scores |= {} if scores is None else {key: scores}

    @property
    def gt_identity(self) -> str | None:
        """Hash of the ground truth that the views carry, for the keys of what is learned from it; None without."""
        if not self._gt_scores:
            return None
        return sha256_json({key: scores.numpy().tobytes().hex() for key, scores in sorted(self._gt_scores.items())})

    def seconds(self, view: View) -> float:
        """Returns the wall seconds that rendering and encoding one such view took, when it was computed."""
        return self._seconds[self._places[view_key(view)]]

    def __call__(self, view: View) -> ViewFeatures:
        """Returns one view's features.

        Raises:
            KeyError: if the view was not among those the artefacts were made for.
        """
        key = view_key(view)
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
    map_sources: Mapping[str, MapSource],
    encoder: ViewEncoder,
    contour_width_px: int,
    batch_size: int,
    progress: Progress,
) -> FeatureReader:
    """Runs the frozen towers over every distinct view, one artefact per named set.

    Args:
        store: where the artefacts lie.
        views: name of a set, such as a category and a role, -> its views; repeated views are computed once.
        map_sources: image_id -> detection and gate of its category, and the record if ground truth may be read.
        encoder: its towers are loaded only if something has to be computed.
        contour_width_px: line width of drawn contours.
        batch_size: views per forward pass.
        progress: shows one bar over all views.
    """
    total = sum(len({view_key(view) for view in members}) for members in views.values())
    folders = []
    with progress.stage("encode views", total=total) as advance:
        for name, members in sorted(views.items()):
            distinct = {view_key(view): view for view in members}
            if not distinct:
                continue
            key = _stage_key(name, distinct, map_sources, encoder=encoder, contour_width_px=contour_width_px)
            builder = _FeatureBuilder(
                views=distinct,
                map_sources=map_sources,
                encoder=encoder,
                contour_width_px=contour_width_px,
                batch_size=batch_size,
                advance=advance,
            )
            folders.append(store.get_or_build(key, builder, title=f"features of {name}"))
    reader = FeatureReader(folders)
    reader.read_ground_truth([view for members in views.values() for view in members], map_sources)
    return reader


def _stage_key(
    name: str,
    views: Mapping[str, View],
    map_sources: Mapping[str, MapSource],
    *,
    encoder: ViewEncoder,
    contour_width_px: int,
) -> StageKey:
    sources = {view.image_id: map_sources[view.image_id] for view in views.values()}
    maps = {
        image_id: [source.detection.detector_hash, source.gate.pixel_threshold] for image_id, source in sources.items()
    }
    return StageKey(
        stage="features",
        version=FEATURES_VERSION,
        inputs={"set": name, "views": list(views), "maps": maps},
        settings={"evidence": encoder.evidence_identity, "contour_width_px": contour_width_px},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _FeatureBuilder:
    """Fills one artefact folder."""

    views: Mapping[str, View]
    map_sources: Mapping[str, MapSource]
    encoder: ViewEncoder
    contour_width_px: int
    batch_size: int
    advance: Advance

    def __call__(self, folder: Path) -> None:
        started = time.perf_counter()
        with FeatureWriter(folder, dtype=self.encoder.feature_dtype) as writer:
            for number, (key, features) in enumerate(self._encoded()):
                view = self.views[key]
                map_scores = self.map_sources[view.image_id].scores(view, features)
                writer.append(key, dataclasses.replace(features, map_scores=map_scores))
                missing = len(self.views) - number - 1
                require_free_disk(folder, needed_bytes=writer.num_bytes * missing // (number + 1))
        seconds = (time.perf_counter() - started) / len(self.views)
        write_atomic(folder / _SECONDS_NAME, json.dumps({"seconds_per_view": seconds}))

    def _encoded(self) -> Iterator[tuple[str, ViewFeatures]]:
        members = list(self.views.items())
        for start in range(0, len(members), self.batch_size):
            chunk = members[start : start + self.batch_size]
            pictures = [render_view(view, contour_width_px=self.contour_width_px) for _, view in chunk]
            evidence = self.encoder.encode_views(pictures).to(torch.device("cpu"))
            yield from zip((key for key, _ in chunk), split_views(evidence), strict=True)
            self.advance(len(chunk))
