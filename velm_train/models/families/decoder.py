"""Prompts with visual tokens in, a causal language model for exactly these prompts out.

Scoring, prefill and generation count positions in tokens. Here such counts become what a family wants (M-RoPE: three
position ids per token, which grow by less than one per visual token), and what a family adds to the visual positions
of its first layers ("deepstack") is passed along with the prompt.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers import Cache, PreTrainedModel
from transformers.utils import ModelOutput

from velm_train.core.batch import Batch
from velm_train.models.families.tap import FamilyTap
from velm_train.models.packing.attention import no_mask
from velm_train.models.packing.layout import RowLayout


@dataclass(frozen=True, kw_only=True, slots=True)
class RopePositions:
    """M-RoPE ids of B prompts.

    Attributes:
        table: temporal, row and column id of every prompt position.
        after: what is added to the count of a token behind the prompt, so that its id follows the highest one.
    """

    table: Int[torch.Tensor, "3 B P"]
    after: Int[torch.Tensor, " B"]

    def of_counts(
        self, counts: Int[torch.Tensor, "B S"], *, lengths: Int[torch.Tensor, " B"]
    ) -> Int[torch.Tensor, "3 B S"]:
        """Returns the ids of positions that are counted in tokens.

        Args:
            counts: of tokens of right-padded rows.
            lengths: real tokens of each prompt.
        """
        known = counts.clamp_max(self.table.shape[2] - 1).expand(3, -1, -1)
        return torch.where(counts < lengths[:, None], self.table.gather(2, known), counts + self.after[:, None])

    def in_row(self, layout: RowLayout, *, lengths: Int[torch.Tensor, " B"]) -> "RopePositions":
        """Returns the ids of a row, as those of one prompt.

        Args:
            layout: of the row, whose bundles begin with these prompts.
            lengths: real tokens of each prompt.
        """
        counts, bundle = layout.counts, layout.bundle
        known = self.table[:, bundle, counts.clamp_max(self.table.shape[2] - 1)]  # (3, T)
        ids = torch.where(counts < lengths[bundle], known, counts + self.after[bundle])
        return RopePositions(table=ids[:, None], after=torch.zeros_like(self.after[:1]))


def rope_positions(
    vlm: PreTrainedModel, batch: Batch, *, image_token_id: int, layout: RowLayout | None = None
) -> RopePositions | None:
    """Returns M-RoPE ids by the family's own rule, if it has one; whatever is no image id counts as text.

    Args:
        vlm: with or without LoRA inside.
        batch: one tile per view.
        image_token_id: what first-look positions hold.
        layout: of the row, if the batch is laid out as one.
    """
    if not hasattr(vlm.model, "get_rope_index"):
        return None
    # Of a bundle the first sample is asked: behind the views that they share, all samples count on as text does.
    rows = slice(None) if layout is None else batch.first_rows
    input_ids, attention_mask = batch.input_ids[rows], batch.attention_mask[rows]
    grid_hw = batch.evidence.grid_hw
    table, after = vlm.model.get_rope_index(
        input_ids,
        mm_token_type_ids=(input_ids == image_token_id).int(),
        image_grid_thw=torch.cat([torch.ones_like(grid_hw[:, :1]), grid_hw], dim=1),
        attention_mask=attention_mask,
    )
    positions = RopePositions(table=table, after=after.reshape(-1))
    return positions if layout is None else positions.in_row(layout, lengths=attention_mask.sum(dim=1))


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptInputs:
    """What a language model reads of B prompts, padded on the right.

    Attributes:
        embeds: visual tokens stand in the places of their placeholders.
        attention_mask: 1 on real tokens.
        is_image: True on first-look positions.
        rope: None where positions are plain counts.
        deepstack: rows that the first layers add at the first-look positions.
        layout: of the one row that the prompts are laid out as; None if they lie side by side.
    """

    embeds: Float[torch.Tensor, "B P D"]
    attention_mask: Int[torch.Tensor, "B P"]
    is_image: Bool[torch.Tensor, "B P"]
    rope: RopePositions | None
    deepstack: tuple[Float[torch.Tensor, "places D"], ...]
    layout: RowLayout | None = None


class PromptedLanguageModel:
    """Stands in for a causal language model while one batch of prompts is read, scored or answered."""

    def __init__(self, vlm: PreTrainedModel, *, tap: FamilyTap, inputs: PromptInputs) -> None:
        """Remembers the prompts.

        Args:
            vlm: with or without LoRA inside.
            tap: of its family.
            inputs: the prompts that the first pass begins with.
        """
        self._vlm = vlm
        self._decoder = tap.decoder(vlm)
        self._inputs = inputs
        self._lengths = inputs.attention_mask.sum(dim=1)

    def get_input_embeddings(self) -> nn.Module:
        """Returns the word embeddings."""
        words: nn.Module = self._vlm.get_input_embeddings()
        return words

    def get_output_embeddings(self) -> nn.Module:
        """Returns the output layer."""
        output: nn.Module = self._vlm.get_output_embeddings()
        return output

    def get_decoder(self) -> "PromptedLanguageModel":
        """Returns itself: calling it runs the decoder."""
        return self

    def __call__(
        self,
        *,
        inputs_embeds: Float[torch.Tensor, "B S D"],
        attention_mask: Int[torch.Tensor, "B _"] | Float[torch.Tensor, "B 1 S S"],
        position_ids: Int[torch.Tensor, "B S"],
        use_cache: bool,
        past_key_values: Cache | None = None,
    ) -> ModelOutput:
        """Runs the decoder.

        Args:
            inputs_embeds: the prompts and what follows them; with a cache, what follows alone.
            attention_mask: over all positions so far, or additive from each position to each.
            position_ids: counts of tokens, each sample's own in a row.
            use_cache: True to keep keys and values.
            past_key_values: of the prompts and what followed so far.
        """
        rope, layout = self._inputs.rope, self._inputs.layout
        more: dict[str, Any] = {}
        if layout is not None:
            attention_mask = no_mask(inputs_embeds.device)
            more["row_layout"] = layout
        if rope is None:
            positions = position_ids
        else:
            positions = rope.table if layout is not None else rope.of_counts(position_ids, lengths=self._lengths)
        if past_key_values is None and self._inputs.deepstack:
            behind = inputs_embeds.shape[1] - self._inputs.is_image.shape[1]
            more["visual_pos_masks"] = nn.functional.pad(self._inputs.is_image, (0, behind))
            more["deepstack_visual_embeds"] = list(self._inputs.deepstack)
        if past_key_values is not None:
            more["past_key_values"] = past_key_values
        output: ModelOutput = self._decoder(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=positions,
            use_cache=use_cache,
            **more,
        )
        return output
