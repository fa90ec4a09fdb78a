"""Encoded samples to one batch: ids and per-view features in, padded float32 torch tensors out.

B x ids (ragged) -> input_ids, attention_mask, labels (B, T), padded on the right
I x ViewFeatures -> evidence with one tile per view: final (I, N, Df), levels (L, I, N, Dl), map_scores,
                    gt_scores (I, N)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from velm_train.collation.render import EncodedSample
from velm_train.core.batch import IGNORE_INDEX, Batch, VisionEvidence
from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, InstructionSample, SizeHW, View


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewFeatures:
    """What the frozen vision tower and the detector say about one view, in row-major token order.

    Attributes:
        final: features that the projector reads.
        levels: features of L depths that the look-twice adapter reads.
        map_scores: the anomaly map pooled to the token grid, in units of the pixel threshold; 0 where unknown.
        grid_hw: token rows and columns; rows * columns <= N, the rest is padding.
        gt_scores: share of each token's area that is defect by the ground truth, NaN where nobody knows; None if the
            ground truth was not read.
    """

    final: Float[np.ndarray, "N Df"]
    levels: Float[np.ndarray, "L N Dl"]
    map_scores: Float[np.ndarray, " N"]
    grid_hw: SizeHW
    gt_scores: Float[np.ndarray, " N"] | None = None


def view_anomalous_by_answer(sample: InstructionSample) -> tuple[float, ...]:
    """Returns for each view what the look-twice adapter's own score should learn.

    A reference is normal (0). A crop shows a defect (1) if the true answer is one and none (0) for a false
    alarm; a whole query shows what its image shows, which may lie elsewhere. Where the truth is unknown the
    view is not scored (NaN).

    Raises:
        DataError: if the sample's provenance does not say what the truth is.
    """
    missing = {"answer_defect_type", "image_defect_type"} - set(sample.provenance)
    if missing:
        raise DataError(f"{sample.sample_id}: provenance lacks {sorted(missing)}; build the instructions again")
    if not sample.target:
        return tuple(0.0 if view.kind == "reference" else math.nan for view in sample.views)
    crop_value = float(sample.provenance["answer_defect_type"] != NORMAL_DEFECT_TYPE)
    whole_value = max(crop_value, float(sample.provenance["image_defect_type"] != NORMAL_DEFECT_TYPE))
    values = {"reference": 0.0, "crop": crop_value, "query": whole_value, "query_contour": whole_value}
    return tuple(values[view.kind] for view in sample.views)


def require_fits(encoded: EncodedSample, *, max_tokens: int) -> None:
    """Refuses a sample that is too long; nothing is ever cut off.

    Raises:
        DataError: naming the sample, its length and the limit.
    """
    length = len(encoded.input_ids)
    if length > max_tokens:
        raise DataError(
            f"{encoded.sample.sample_id}: {length} tokens, more than max_tokens={max_tokens}; show fewer views or "
            "options, leave out descriptions, or raise the limit"
        )


def collate(
    encoded: Sequence[EncodedSample],
    *,
    features: Callable[[View], ViewFeatures],
    pad_token_id: int,
    view_anomalous: Callable[[InstructionSample], Sequence[float]],
    max_tokens: int,
) -> Batch:
    """Puts samples and the evidence of all their views into one batch.

    Args:
        encoded: at least one sample, with at least one view among them.
        features: what is known about a view, of the same widths for all views.
        pad_token_id: fills rows up to the longest; such positions carry neither attention nor loss.
        view_anomalous: one value per view of a sample: 1 anomalous, 0 normal, NaN not to be scored.
        max_tokens: longest row allowed.

    Raises:
        DataError: if a sample is longer than max_tokens.
    """
    assert encoded, "a batch needs a sample"
    for item in encoded:
        require_fits(item, max_tokens=max_tokens)
    views = [(row, view) for row, item in enumerate(encoded) for view in item.sample.views]
    lengths = torch.tensor([len(item.input_ids) for item in encoded])
    return Batch(
        input_ids=_padded([item.input_ids for item in encoded], value=pad_token_id),
        attention_mask=(torch.arange(int(lengths.max())) < lengths[:, None]).long(),  # (B, T)
        labels=_padded([item.labels for item in encoded], value=IGNORE_INDEX),
        evidence=stack_views([features(view) for _, view in views]),
        view_sample=torch.tensor([row for row, _ in views], dtype=torch.long),
        view_anomalous=torch.tensor(
            [value for item in encoded for value in _one_per_view(item.sample, view_anomalous)], dtype=torch.float32
        ),
        sample_ids=tuple(item.sample.sample_id for item in encoded),
    )


def stack_views(views: Sequence[ViewFeatures]) -> VisionEvidence:
    """Returns the evidence of views with one tile each, in float32; smaller grids are padded with zeros."""
    assert views, "a batch needs a view"
    widths = {(view.final.shape[1], view.levels.shape[0], view.levels.shape[2]) for view in views}
    assert len(widths) == 1, f"views of one batch differ in widths or levels: {widths}"
    num_views, num_tokens = len(views), max(view.final.shape[0] for view in views)
    grid_hw = torch.tensor([view.grid_hw for view in views], dtype=torch.long)  # (I, 2)
    num_valid = grid_hw.prod(dim=1)
    assert all(rows * columns <= len(view.final) for view in views for rows, columns in [view.grid_hw]), grid_hw
    return VisionEvidence(
        final=_stacked([view.final for view in views], num_tokens, axis=0),
        levels=_stacked([view.levels for view in views], num_tokens, axis=1).transpose(0, 1).contiguous(),
        grid_hw=grid_hw,
        view_index=torch.arange(num_views),
        is_global=torch.ones(num_views, dtype=torch.bool),
        valid=torch.arange(num_tokens) < num_valid[:, None],  # (I, N)
        map_scores=_stacked([view.map_scores for view in views], num_tokens, axis=0),
        gt_scores=_gt_scores(views, num_tokens),
    )


def _gt_scores(views: Sequence[ViewFeatures], num_tokens: int) -> torch.Tensor | None:
    known = [view.gt_scores for view in views if view.gt_scores is not None]
    if not known:
        return None
    assert len(known) == len(views), "the ground truth was read for some views of a batch and not for others"
    return _stacked(known, num_tokens, axis=0)


def _stacked(arrays: Sequence[np.ndarray], num_tokens: int, *, axis: int) -> torch.Tensor:
    """Stacks arrays of one entry per token along `axis`, zeros behind the shorter ones."""
    if all(array.shape[axis] == num_tokens for array in arrays):
        return _float32(np.stack(arrays))
    widths = [[(0, num_tokens - array.shape[axis] if i == axis else 0) for i in range(array.ndim)] for array in arrays]
    return _float32(np.stack([np.pad(array, width) for array, width in zip(arrays, widths, strict=True)]))


def _padded(rows: Sequence[Sequence[int]], *, value: int) -> torch.Tensor:
    padded = torch.full((len(rows), max(len(row) for row in rows)), value, dtype=torch.long)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded


def _float32(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _one_per_view(sample: InstructionSample, rule: Callable[[InstructionSample], Sequence[float]]) -> Sequence[float]:
    values = rule(sample)
    assert len(values) == len(sample.views), (sample.sample_id, values)
    return values
