"""The one torch record: what collation hands to a model."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

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


NO_VIEWS = VisionEvidence(
    final=torch.zeros(0, 0, 0),
    levels=torch.zeros(0, 0, 0, 0),
    grid_hw=torch.zeros(0, 2, dtype=torch.long),
    view_index=torch.zeros(0, dtype=torch.long),
    is_global=torch.zeros(0, dtype=torch.bool),
    valid=torch.zeros(0, 0, dtype=torch.bool),
    map_scores=torch.zeros(0, 0),
)
"""Evidence of a batch that shows nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """Neighbouring samples of a batch that show the same views and begin with the same tokens.

    Attributes:
        lengths: tokens of each sample, padding not counted; one entry for a sample by itself.
        num_shared: leading tokens that all of them have in common, the placeholders of all their views among them;
            0 for a sample by itself. Every sample goes on behind them by one token at least.
    """

    lengths: tuple[int, ...]
    num_shared: int = 0

    @property
    def num_tokens(self) -> int:
        """Tokens if what is shared is counted once."""
        return self.num_shared + sum(length - self.num_shared for length in self.lengths)


def first_rows(bundles: Sequence[Bundle]) -> list[int]:
    """Returns the row of a batch that each bundle begins with."""
    return list(accumulate((len(bundle.lengths) for bundle in bundles[:-1]), initial=0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B tokenised samples with the evidence of all their views.

    Attributes:
        input_ids: token ids with one placeholder id per first-look and second-look token.
        attention_mask: 1 on real tokens, 0 on padding.
        labels: unshifted targets; IGNORE_INDEX except on the answer and its stop token.
        evidence: of all views of the batch, in the order of their placeholders; of a bundle's views once.
        view_sample: row of the sample that each view belongs to, (I,); the first of its bundle.
        view_anomalous: 1 if the sample's image has a defect, 0 if not, NaN if the view is not to be scored (I,).
        sample_ids: provenance of each row.
        bundles: of all rows, in order, for a model that is to compute them as one row without padding; None for
            samples computed side by side, each with its own views.
    """

    input_ids: Int[torch.Tensor, "B T"]
    attention_mask: Int[torch.Tensor, "B T"]
    labels: Int[torch.Tensor, "B T"]
    evidence: VisionEvidence
    view_sample: Int[torch.Tensor, " I"]
    view_anomalous: Float[torch.Tensor, " I"]
    sample_ids: tuple[str, ...]
    bundles: tuple[Bundle, ...] | None = None

    @property
    def first_rows(self) -> list[int]:
        """The row that each bundle begins with; every row without bundles."""
        return list(range(len(self.input_ids))) if self.bundles is None else first_rows(self.bundles)

    @property
    def view_weight(self) -> Float[torch.Tensor, " I"]:
        """How many samples show each view."""
        weight = torch.ones(len(self.input_ids))
        if self.bundles is not None:
            weight[self.first_rows] = torch.tensor([float(len(bundle.lengths)) for bundle in self.bundles])
        return weight.to(self.view_sample.device)[self.view_sample]

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
            bundles=self.bundles,
        )
