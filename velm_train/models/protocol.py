"""What every vision-language model of the project offers to training and evaluation, whatever its family."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn

from velm_train.core.batch import Batch, VisionEvidence
from velm_train.core.records import SizeHW


@dataclass(frozen=True, kw_only=True)  # without slots: DeepSpeed looks into what modules return by vars()
class LookTwiceOutput:
    """What the look-twice adapter says about T tiles of I views.

    Attributes:
        token_scores: suspicion of every visual token in 0..1, 0 on padding.
        second_look: K tokens per view, whatever its number of tiles, to be added after the first-look ones; in the
            language model's embedding space.
        image_logits: the adapter's own anomaly score of each view, as a logit.
    """

    token_scores: Float[torch.Tensor, "T N"]
    second_look: Float[torch.Tensor, "I K D"]
    image_logits: Float[torch.Tensor, " I"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOutput:
    """Sums over a batch that training turns into a loss.

    Attributes:
        language_loss_sum: summed cross-entropy over the supervised tokens, nats, float32.
        num_supervised: number of supervised tokens.
        image_logits: the look-twice adapter's score of each view, or None if there is no adapter.
        token_scores: its suspicion of every visual token, or None.
    """

    language_loss_sum: Float[torch.Tensor, ""]
    num_supervised: int
    image_logits: Float[torch.Tensor, " I"] | None
    token_scores: Float[torch.Tensor, "T N"] | None = None


@runtime_checkable
class VisionLanguageModel(Protocol):
    """A frozen vision tower, a projector, an optional look-twice adapter and a language model with LoRA."""

    @property
    def identity(self) -> str:
        """Hash of the frozen weights and everything that shapes their input; adapters are not part of it."""
        ...

    @property
    def evidence_identity(self) -> str:
        """Hash of what `encode_views` depends on: tower weights, input sizes, levels."""
        ...

    @property
    def feature_dtype(self) -> torch.dtype:
        """The type that keeps what `encode_views` returns on disk."""
        ...

    @property
    def num_second_look(self) -> int:
        """Placeholders per view for the second look; 0 without adapter."""
        ...

    @property
    def max_context(self) -> int:
        """Longest prompt with its answer that the language model was made for, tokens."""
        ...

    @property
    def decoder(self) -> nn.Module:
        """The language model without its output layer, LoRA inside; its blocks are `decoder.layers`."""
        ...

    def view_token_ids(self, size_hw: SizeHW) -> tuple[int, ...]:
        """Returns what stands for a view of a size in a prompt: the first look with its marks, then the second look.

        Raises:
            DataError: if the model cannot take a view of this size.
        """
        ...

    def evidence_shape(self, size_hw: SizeHW) -> tuple[int, int]:
        """Returns how many tiles `encode_views` makes of a view of a size, and the tokens of the largest of them.

        Raises:
            DataError: if the model cannot take a view of this size.
        """
        ...

    def encode_views(self, views: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> VisionEvidence:
        """Runs the frozen tower without gradients on pictures of any size; `map_scores` are zero."""
        ...

    def training_output(self, batch: Batch) -> TrainingOutput:
        """Runs the language model with logits at supervised positions only.

        Args:
            batch: one padded row a sample; or with bundles, which inside `packing.attention.row_attention` of the
                decoder are computed as one row without padding, what samples of a bundle share once. Both give the
                same numbers up to rounding.
        """
        ...

    def option_log_likelihoods(
        self, batch: Batch, *, options: Sequence[Sequence[Sequence[int]]]
    ) -> list[Float[torch.Tensor, " options"]]:
        """Scores each row's options (token ids with the stop token) after its prompt, prefilled once.

        Args:
            batch: prompts without answers; labels are ignored.
            options: row -> option -> token ids.

        Returns:
            For each row the sum of log-probabilities of each option's tokens, nats, float32.
        """
        ...

    def merged_for_inference(self) -> AbstractContextManager[None]:
        """Adds LoRA into the base weights for the length of a `with` block: the same answers, sooner."""
        ...

    def first_look_only(self) -> AbstractContextManager[None]:
        """Takes the look-twice adapter out for the length of a `with` block; prompts must not ask for it then."""
        ...

    def trainable_groups(self) -> Mapping[str, list[torch.nn.Parameter]]:
        """Returns the parameters that learn, by group name: "lora", "projector", "look_twice"."""
        ...

    def save_adapter(self, folder: Path) -> None:
        """Writes the PEFT adapter, projector and look-twice weights as safetensors."""
        ...

    def load_adapter(self, folder: Path) -> None:
        """Reads what `save_adapter` wrote; fails unless the keys match exactly."""
        ...
