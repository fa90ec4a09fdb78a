"""Views in; what the frozen towers and the anomaly map say about them out, computed when it is asked for."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from velm_train.collation.collate import ViewFeatures, split_views
from velm_train.core.batch import VisionEvidence
from velm_train.core.records import SizeHW, View
from velm_train.pipeline.feature_files import as_stored
from velm_train.pipeline.views import MapSource, render_view, view_key

BYTES_PER_TOKEN = 5
"""Of what is kept of a token besides its features: whether it is valid, and its map score."""


@runtime_checkable
class Tower(Protocol):
    """What is frozen and looks at views: that of a vision-language model, or a detector's backbone."""

    @property
    def evidence_identity(self) -> str:
        """Hash of what `encode_views` depends on."""
        ...

    @property
    def feature_dtype(self) -> torch.dtype:
        """The type that keeps the features on disk."""
        ...

    def evidence_shape(self, size_hw: SizeHW) -> tuple[int, int]:
        """Returns how many tiles are made of a view of a size, and the tokens of the largest of them."""
        ...

    def encode_views(self, views: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> VisionEvidence:
        """Returns what it says about pictures of any size; `map_scores` are zero."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewEncoder:
    """Renders views, runs a frozen tower over them, and pools the anomaly map to their tokens.

    Attributes:
        tower: its weights are loaded when the first view comes.
        map_sources: image_id -> detection and gate of its category, and the record if ground truth may be read.
        contour_width_px: line width of drawn contours.
        batch_size: views per forward pass, 1 or more.
    """

    tower: Tower
    map_sources: Mapping[str, MapSource]
    contour_width_px: int
    batch_size: int

    def encode(
        self, views: Mapping[str, View], *, on_chunk: Callable[[int], None]
    ) -> Iterator[tuple[str, ViewFeatures]]:
        """Gives the features of each view, in float32, in the order of the views.

        Args:
            views: key -> view.
            on_chunk: called with the number of views after each forward pass.
        """
        members = list(views.items())
        for start in range(0, len(members), self.batch_size):
            chunk = members[start : start + self.batch_size]
            pictures = [render_view(view, contour_width_px=self.contour_width_px) for _, view in chunk]
            evidence = self.tower.encode_views(pictures).to(torch.device("cpu"))
            for (key, view), features in zip(chunk, split_views(evidence), strict=True):
                scores = self.map_sources[view.image_id].scores(view, features)
                yield key, dataclasses.replace(features, map_scores=scores)
            on_chunk(len(chunk))

    def stored_bytes(self, views: Sequence[View]) -> int:
        """Returns how many bytes the features of different views will take, from one encoded view and all sizes."""
        ((_, first),) = self.encode({"": views[0]}, on_chunk=lambda _: None)
        width = first.final.shape[2] + first.levels.shape[0] * first.levels.shape[3]
        shapes = [self.tower.evidence_shape(view.size_hw) for view in views]
        num_tokens = sum(num_tiles * tokens for num_tiles, tokens in shapes)
        return num_tokens * (width * self.tower.feature_dtype.itemsize + BYTES_PER_TOKEN)


class LiveFeatures:
    """Encodes views anew each time; the same numbers as those on disk, because they are rounded to the same type.

    Equal to the last bit if a view is encoded beside the same others; beside others, matrix products round otherwise.
    """

    def __init__(self, encoder: ViewEncoder) -> None:
        """Remembers how to encode; nothing is read yet."""
        self._encoder = encoder
        self._seconds = 0.0
        self._num_encoded = 0

    def of(self, views: Sequence[View]) -> dict[str, ViewFeatures]:
        """Returns the features of the views by key, each different view encoded once."""
        started = time.perf_counter()
        distinct = {view_key(view): view for view in views}
        encoded = {
            key: self._finished(distinct[key], features)
            for key, features in self._encoder.encode(distinct, on_chunk=lambda _: None)
        }
        self._seconds += time.perf_counter() - started
        self._num_encoded += len(distinct)
        return encoded

    def seconds_per_view(self, view: View) -> float:
        """Returns the mean wall seconds of all views so far, or of this one if there was none."""
        if self._num_encoded == 0:
            self.of([view])
        return self._seconds / self._num_encoded

    def _finished(self, view: View, features: ViewFeatures) -> ViewFeatures:
        gt_scores = self._encoder.map_sources[view.image_id].gt_scores(view, features)
        return dataclasses.replace(as_stored(features, dtype=self._encoder.tower.feature_dtype), gt_scores=gt_scores)
