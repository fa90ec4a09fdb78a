"""Views in; what the frozen vision towers say about them out, computed once and memory-mapped afterwards.

Exact by construction: the towers are frozen and a view is fixed by its pixels, so an epoch, a run and a sweep job
read the same numbers. Files: final.npy (n, N, Df), levels.npy (n, L, N, Dl), both float16, and map_scores.npy
(n, N) float32, in units of the category's pixel threshold.

Ground truth on the token grid is no part of the artefacts: it is pooled each time, and only for a run that is told to
read it (`MapSource.gt_record`), so that nothing that others reuse has seen a mask.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from velm_train.collation.collate import ViewFeatures
from velm_train.core.artifacts import ArtifactStore, StageKey, require_free_disk, write_atomic
from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.images import cut_out, read_gt_masks, read_rgb
from velm_train.core.progress import Advance, Progress
from velm_train.core.records import Detection, ImageRecord, View
from velm_train.core.shapes import RGBImage
from velm_train.gating.gate import CalibratedGate
from velm_train.models.protocol import VisionLanguageModel
from velm_train.regions.overlay import draw_contour, pool_map

FEATURES_VERSION = 1
_INDEX_NAME = "views.json"
_SECONDS_NAME = "seconds.json"


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

    def scores(self, view: View, *, grid_hw: tuple[int, int]) -> Float[np.ndarray, " N"]:
        """Returns the anomaly map averaged over each visual token, 1 at the pixel threshold, row-major."""
        pooled = pool_map(self.detection.anomaly_map, self.detection.image_size_hw, view.box_xyxy, grid_hw)
        return (pooled / self.gate.pixel_threshold).astype(np.float32).reshape(-1)

    def gt_scores(self, view: View, *, grid_hw: tuple[int, int]) -> Float[np.ndarray, " N"] | None:
        """Returns the share of each visual token's area that is defect, row-major.

        None if the masks may not be read; NaN everywhere for a defect that nobody has outlined.
        """
        record = self.gt_record
        if record is None:
            return None
        if record.gt_label and not record.gt_mask_paths:
            return np.full(grid_hw[0] * grid_hw[1], np.nan, dtype=np.float32)
        gt_mask = read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw)
        return pool_map(gt_mask.astype(np.float32), record.size_hw, view.box_xyxy, grid_hw).reshape(-1)


class FeatureReader:
    """Looks up a view's features in the memory-mapped artefacts."""

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        grid_hw: tuple[int, int],
        gt_scores: Mapping[str, Float[np.ndarray, " N"]],
    ) -> None:
        """Opens the artefacts; nothing is read until asked for.

        Args:
            folders: of the artefacts.
            grid_hw: token rows and columns of every view.
            gt_scores: view key -> ground truth on the token grid; empty if it may not be read.
        """
        self._grid_hw = grid_hw
        self._gt_scores = gt_scores
        self._rows: dict[str, tuple[int, int]] = {}
        self._final: list[np.ndarray] = []
        self._levels: list[np.ndarray] = []
        self._map_scores: list[np.ndarray] = []
        self._seconds: list[float] = []
        for number, folder in enumerate(folders):
            for row, key in enumerate(json.loads((folder / _INDEX_NAME).read_text())):
                self._rows[key] = (number, row)
            self._final.append(np.load(folder / "final.npy", mmap_mode="r"))
            self._levels.append(np.load(folder / "levels.npy", mmap_mode="r"))
            self._map_scores.append(np.load(folder / "map_scores.npy"))
            self._seconds.append(json.loads((folder / _SECONDS_NAME).read_text())["seconds_per_view"])

    @property
    def gt_identity(self) -> str | None:
        """Hash of the ground truth that the views carry, for the keys of what is learned from it; None without."""
        if not self._gt_scores:
            return None
        return sha256_json({key: scores.tobytes().hex() for key, scores in sorted(self._gt_scores.items())})

    def seconds(self, view: View) -> float:
        """Returns the wall seconds that rendering and encoding one such view took, when it was computed."""
        return self._seconds[self._rows[view_key(view)][0]]

    def __call__(self, view: View) -> ViewFeatures:
        """Returns one view's features.

        Raises:
            KeyError: if the view was not among those the artefacts were made for.
        """
        key = view_key(view)
        number, row = self._rows[key]
        return ViewFeatures(
            final=self._final[number][row],
            levels=self._levels[number][row],
            map_scores=self._map_scores[number][row],
            grid_hw=self._grid_hw,
            gt_scores=self._gt_scores[key] if self._gt_scores else None,
        )


def ground_truth_of(features: FeatureReader) -> dict[str, str]:
    """Returns what a key must name besides the material if something is learned from masks; empty otherwise."""
    return {} if features.gt_identity is None else {"ground truth": features.gt_identity}


def build_features(
    *,
    store: ArtifactStore,
    views: Mapping[str, Sequence[View]],
    map_sources: Mapping[str, MapSource],
    model: VisionLanguageModel,
    contour_width_px: int,
    batch_size: int,
    progress: Progress,
) -> FeatureReader:
    """Runs the frozen towers over every distinct view, one artefact per named set.

    Args:
        store: where the artefacts lie.
        views: name of a set, such as a category and a role, -> its views; repeated views are computed once.
        map_sources: image_id -> detection and gate of its category, and the record if ground truth may be read.
        model: its towers are loaded only if something has to be computed.
        contour_width_px: line width of drawn contours.
        batch_size: views per forward pass.
        progress: shows one bar over all views.
    """
    total = sum(len({view_key(view) for view in members}) for members in views.values())
    folders, gt_scores = [], {}
    with progress.stage("encode views", total=total) as advance:
        for name, members in sorted(views.items()):
            distinct = {view_key(view): view for view in members}
            if not distinct:
                continue
            key = _stage_key(name, distinct, map_sources, model=model, contour_width_px=contour_width_px)
            builder = _FeatureBuilder(
                views=distinct,
                map_sources=map_sources,
                model=model,
                contour_width_px=contour_width_px,
                batch_size=batch_size,
                advance=advance,
            )
            folders.append(store.get_or_build(key, builder, title=f"features of {name}"))
            gt_scores.update(_gt_scores(distinct, map_sources, grid_hw=model.token_grid_hw))
    return FeatureReader(folders, grid_hw=model.token_grid_hw, gt_scores=gt_scores)


def _gt_scores(
    views: Mapping[str, View], map_sources: Mapping[str, MapSource], *, grid_hw: tuple[int, int]
) -> dict[str, Float[np.ndarray, " N"]]:
    pooled = {key: map_sources[view.image_id].gt_scores(view, grid_hw=grid_hw) for key, view in views.items()}
    return {key: scores for key, scores in pooled.items() if scores is not None}


def _stage_key(
    name: str,
    views: Mapping[str, View],
    map_sources: Mapping[str, MapSource],
    *,
    model: VisionLanguageModel,
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
        settings={"evidence": model.evidence_identity, "contour_width_px": contour_width_px},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _FeatureBuilder:
    """Fills one artefact folder."""

    views: Mapping[str, View]
    map_sources: Mapping[str, MapSource]
    model: VisionLanguageModel
    contour_width_px: int
    batch_size: int
    advance: Advance

    def __call__(self, folder: Path) -> None:
        started = time.perf_counter()
        finals, levels = [], []
        for final, level in self._encoded(folder):
            finals.append(final)
            levels.append(level)
        map_scores = [
            self.map_sources[view.image_id].scores(view, grid_hw=self.model.token_grid_hw)
            for view in self.views.values()
        ]
        np.save(folder / "final.npy", np.concatenate(finals))
        np.save(folder / "levels.npy", np.concatenate(levels))
        np.save(folder / "map_scores.npy", np.stack(map_scores))
        seconds = (time.perf_counter() - started) / len(self.views)
        write_atomic(folder / _SECONDS_NAME, json.dumps({"seconds_per_view": seconds}))
        write_atomic(folder / _INDEX_NAME, json.dumps(list(self.views)))

    def _encoded(self, folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        members = list(self.views.values())
        for start in range(0, len(members), self.batch_size):
            chunk = members[start : start + self.batch_size]
            evidence = self.model.encode_views(
                [render_view(view, contour_width_px=self.contour_width_px) for view in chunk]
            )
            final = evidence.final.numpy().astype(np.float16)
            levels = evidence.levels.transpose(0, 1).numpy().astype(np.float16)  # (T, L, N, Dl)
            if start == 0:
                per_view = (final.nbytes + levels.nbytes) / len(chunk)
                require_free_disk(folder, needed_bytes=int(per_view * len(members)))
            yield final, levels
            self.advance(len(chunk))
