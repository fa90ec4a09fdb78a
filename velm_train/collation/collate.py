"""Encoded samples to one batch: ids and per-view features in, padded float32 torch tensors out.

B x ids (ragged) -> input_ids, attention_mask, labels (B, T), padded on the right
I x ViewFeatures -> evidence of all their tiles: final (T, N, Df), levels (L, T, N, Dl), map_scores, gt_scores (T, N)
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from velm_train.collation.render import EncodedSample
from velm_train.core.batch import IGNORE_INDEX, NO_VIEWS, Batch, Bundle, VisionEvidence, first_rows
from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, InstructionSample, View

ViewFeatures = VisionEvidence
"""What the frozen vision tower and the detector say about one view: evidence of its tiles, in any float type."""


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


def require_fits(encoded: EncodedSample, *, max_tokens: int | None) -> None:
    """Refuses a sample that is too long; nothing is ever cut off. None is no limit but the renderer's.

    Raises:
        DataError: naming the sample, its length and the limit.
    """
    length = len(encoded.input_ids)
    if max_tokens is not None and length > max_tokens:
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
    max_tokens: int | None,
    bundles: Sequence[Bundle] | None = None,
) -> Batch:
    """Puts samples and the evidence of all their views into one batch.

    Args:
        encoded: at least one sample; samples without any view are possible.
        features: what is known about a view, of the same widths for all views.
        pad_token_id: fills rows up to the longest; such positions carry neither attention nor loss.
        view_anomalous: one value per view of a sample: 1 anomalous, 0 normal, NaN not to be scored.
        max_tokens: longest row allowed; None if the renderer has refused what is too long for the model.
        bundles: of the samples, in order, for a model that computes them as one row; the features of a bundle's views
            are looked up once. None for samples that are computed side by side.

    Raises:
        DataError: if a sample is longer than max_tokens.
    """
    assert encoded, "a batch needs a sample"
    for item in encoded:
        require_fits(item, max_tokens=max_tokens)
    shown = range(len(encoded)) if bundles is None else first_rows(bundles)
    views = [(row, view) for row in shown for view in encoded[row].sample.views]
    lengths = torch.tensor([len(item.input_ids) for item in encoded])
    return Batch(
        input_ids=_padded([item.input_ids for item in encoded], value=pad_token_id),
        attention_mask=(torch.arange(int(lengths.max())) < lengths[:, None]).long(),  # (B, T)
        labels=_padded([item.labels for item in encoded], value=IGNORE_INDEX),
        evidence=stack_views([features(view) for _, view in views]) if views else NO_VIEWS,
        view_sample=torch.tensor([row for row, _ in views], dtype=torch.long),
        view_anomalous=torch.tensor(
            [value for row in shown for value in _one_per_view(encoded[row].sample, view_anomalous)],
            dtype=torch.float32,
        ),
        sample_ids=tuple(item.sample.sample_id for item in encoded),
        bundles=None if bundles is None else tuple(bundles),
    )


def stack_views(views: Sequence[ViewFeatures]) -> VisionEvidence:
    """Returns the evidence of all tiles of some views, in float32; tiles of fewer tokens are padded with zeros.

    Args:
        views: each with one tile or more, of the same widths and levels.
    """
    assert views, "a batch needs a view"
    widths = {(view.final.shape[2], view.levels.shape[0], view.levels.shape[3]) for view in views}
    assert len(widths) == 1, f"views of one batch differ in widths or levels: {widths}"
    num_tokens = max(view.final.shape[1] for view in views)
    num_tiles = torch.tensor([len(view.final) for view in views])
    return VisionEvidence(
        final=_side_by_side([view.final for view in views], num_tokens, axis=1),
        levels=_side_by_side([view.levels for view in views], num_tokens, axis=2),
        grid_hw=torch.cat([view.grid_hw for view in views]),
        view_index=torch.arange(len(views)).repeat_interleave(num_tiles),
        is_global=torch.cat([view.is_global for view in views]),
        valid=torch.cat([F.pad(view.valid, (0, num_tokens - view.valid.shape[1])) for view in views]),
        map_scores=_side_by_side([view.map_scores for view in views], num_tokens, axis=1),
        tile_xyxy=_all_or_none([view.tile_xyxy for view in views], what="the boxes of tiles are known"),
        gt_scores=_all_or_none(
            [_padded_scores(view.gt_scores, num_tokens) for view in views], what="the ground truth was read"
        ),
    )


def split_views(evidence: VisionEvidence) -> list[ViewFeatures]:
    """Returns the evidence of each view by itself, without the padding beyond its own largest tile."""
    views = []
    for number in range(int(evidence.view_index.max()) + 1):
        tiles = evidence.view_index == number
        num_tokens = int(evidence.grid_hw[tiles].prod(dim=1).max())
        views.append(
            ViewFeatures(
                final=evidence.final[tiles, :num_tokens],
                levels=evidence.levels[:, tiles, :num_tokens],
                grid_hw=evidence.grid_hw[tiles],
                view_index=torch.zeros(int(tiles.sum()), dtype=torch.long, device=tiles.device),
                is_global=evidence.is_global[tiles],
                valid=evidence.valid[tiles, :num_tokens],
                map_scores=evidence.map_scores[tiles, :num_tokens],
                tile_xyxy=None if evidence.tile_xyxy is None else evidence.tile_xyxy[tiles],
                gt_scores=None if evidence.gt_scores is None else evidence.gt_scores[tiles, :num_tokens],
            )
        )
    return views


def _side_by_side(parts: Sequence[torch.Tensor], num_tokens: int, *, axis: int) -> torch.Tensor:
    """Joins tiles, which lie along the axis before `axis`, with zeros behind the tokens of the smaller ones."""
    padding = [0] * (2 * (parts[0].ndim - axis - 1))
    return torch.cat(
        [F.pad(part.float(), (*padding, 0, num_tokens - part.shape[axis])) for part in parts], dim=axis - 1
    )


def _padded_scores(scores: torch.Tensor | None, num_tokens: int) -> torch.Tensor | None:
    return None if scores is None else F.pad(scores.float(), (0, num_tokens - scores.shape[1]))


def _all_or_none(parts: Sequence[torch.Tensor | None], *, what: str) -> torch.Tensor | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    assert len(known) == len(parts), f"{what} for some views of a batch and not for others"
    return torch.cat(known)


def _padded(rows: Sequence[Sequence[int]], *, value: int) -> torch.Tensor:
    padded = torch.full((len(rows), max(len(row) for row in rows)), value, dtype=torch.long)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded


def _one_per_view(sample: InstructionSample, rule: Callable[[InstructionSample], Sequence[float]]) -> Sequence[float]:
    values = rule(sample)
    assert len(values) == len(sample.views), (sample.sample_id, values)
    return values
