"""The one torch record: what collation hands to a model."""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int

IGNORE_INDEX = -100
"""Label of positions that carry no loss, as in Hugging Face."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionEvidence:
    """What a frozen vision tower says about T tiles of I views, in row-major token order.

    Tiles of unequal grids are padded to N tokens. The features of one view are the same record with I = 1.

    Attributes:
        final: features that the projector reads.
        levels: features of L depths that the look-twice adapter reads.
        grid_hw: token rows and columns of each tile; rows * columns <= N.
        view_index: the view that each tile belongs to, 0..I-1, ascending.
        is_global: True for the one tile of each view that shows all of it.
        valid: False on padding tokens, which are not object.
        map_scores: the detector's anomaly map pooled to the token grid, in units of the pixel threshold
            (1 = at the threshold); 0 where no map is known.
        tile_xyxy: the part of its view that each tile shows, as fractions of the view's sides, beyond 0..1 where a
            tile reaches into padding; None if every tile shows all of its view.
        gt_scores: share of each token's area that is defect by the ground truth, NaN where nobody knows; None, as in
            every run whose figures are not marked "oracle" or whose masks supervise nothing, if it was not read.
    """

    final: Float[torch.Tensor, "T N Df"]
    levels: Float[torch.Tensor, "L T N Dl"]
    grid_hw: Int[torch.Tensor, "T 2"]
    view_index: Int[torch.Tensor, " T"]
    is_global: Bool[torch.Tensor, " T"]
    valid: Bool[torch.Tensor, "T N"]
    map_scores: Float[torch.Tensor, "T N"]
    tile_xyxy: Float[torch.Tensor, "T 4"] | None = None
    gt_scores: Float[torch.Tensor, "T N"] | None = None

    def to(self, device: torch.device) -> "VisionEvidence":
        """Returns the same evidence on another device."""
        known = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return dataclasses.replace(self, **{name: part.to(device) for name, part in known if part is not None})


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B tokenised samples with the evidence of all their views.

    Attributes:
        input_ids: token ids with one placeholder id per first-look and second-look token.
        attention_mask: 1 on real tokens, 0 on padding.
        labels: unshifted targets; IGNORE_INDEX except on the answer and its stop token.
        evidence: of all views of the batch, in the order of their placeholders.
        view_sample: row of the sample that each view belongs to, (I,).
        view_anomalous: 1 if the sample's image has a defect, 0 if not, NaN if the view is not to be scored (I,).
        sample_ids: provenance of each row.
    """

    input_ids: Int[torch.Tensor, "B T"]
    attention_mask: Int[torch.Tensor, "B T"]
    labels: Int[torch.Tensor, "B T"]
    evidence: VisionEvidence
    view_sample: Int[torch.Tensor, " I"]
    view_anomalous: Float[torch.Tensor, " I"]
    sample_ids: tuple[str, ...]

    def to(self, device: torch.device) -> "Batch":
        """Returns the same batch on another device."""
        return Batch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            labels=self.labels.to(device),
            evidence=self.evidence.to(device),
            view_sample=self.view_sample.to(device),
            view_anomalous=self.view_anomalous.to(device),
            sample_ids=self.sample_ids,
        )
