"""Cached evidence and the type of each view go in; a projector that speaks the language model's words comes out.

A first stage that never runs the language model. Every fine visual token is pulled towards the language model's own
input embedding of a word, by cosine similarity and cross-entropy over the closed list:

    token of a defective view where the detector's map exceeds the pixel threshold -> its type's word
    every other token, and all tokens of reference and normal views                -> the normal word
    second-look tokens of a view                                                   -> the view's word

Targets come from the detector's map, never from a ground-truth outline.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig

from velm_train.core.errors import DataError
from velm_train.models.protocol import LookTwiceOutput
from velm_train.training.batches import NORMAL_WORD_INDEX, UNKNOWN_WORD_INDEX, AlignmentBatch, WindowedBatch
from velm_train.training.losses import class_balanced_cross_entropy, image_loss_sum
from velm_train.training.module import require_finite_loss
from velm_train.training.optimiser import Optimisation, ParameterGroups, make_optimiser
from velm_train.training.trainable import keep_trainable_only, require_trainable_exactly, train_only_what_learns

NORMAL_WORD = "good"
"""What tokens that show nothing unusual are pulled to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """The closed list as the language model reads it.

    Attributes:
        words: NORMAL_WORD, then display names of types, each once.
        vectors: the language model's input embedding of each word.
    """

    words: tuple[str, ...]
    vectors: Float[torch.Tensor, "words D"]

    def index(self, word: str) -> int:
        """Returns the row of a word.

        Raises:
            DataError: if it is not on the list.
        """
        if word not in self.words:
            raise DataError(f"{word!r} is not a word of the alignment stage; it knows {list(self.words)}")
        return self.words.index(word)


def make_vocabulary(
    display_names: Sequence[str], *, tokenize: Callable[[str], Sequence[int]], embedding: torch.nn.Module
) -> Vocabulary:
    """Looks the words up in the language model's input embedding.

    Args:
        display_names: of the types; names that occur in several categories count once.
        tokenize: text -> token ids without special tokens; called with a leading space, as inside a sentence.
        embedding: token ids -> vectors; a word of several tokens gets the mean of theirs.
    """
    words = (NORMAL_WORD, *sorted(set(display_names) - {NORMAL_WORD}))
    device = next(embedding.parameters()).device
    with torch.no_grad():
        vectors = [embedding(torch.tensor(list(tokenize(f" {word}")), device=device)).mean(dim=0) for word in words]
    return Vocabulary(words=words, vectors=torch.stack(vectors).float())


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentLoss:
    """Weights of the alignment stage's terms.

    Attributes:
        temperature: of the cosine similarities, above 0.
        second_look_weight: weight of the second-look tokens' term, 0 or more.
        bce_weight: weight of the adapter's own anomaly score, 0 or more.
        pos_weight: weight of anomalous views in it.
    """

    temperature: float = 0.07
    second_look_weight: float = 1.0
    bce_weight: float = 0.1
    pos_weight: float = 1.0


def token_words(batch: AlignmentBatch) -> Int[torch.Tensor, "T N"]:
    """Returns the word of every fine token, UNKNOWN_WORD_INDEX on padding and on views that are left out."""
    evidence = batch.evidence
    tile_word = batch.view_word[evidence.view_index][:, None]  # (T, 1)
    unusual = evidence.map_scores > 1.0  # in units of the pixel threshold
    words = torch.where(unusual, tile_word, NORMAL_WORD_INDEX)
    return torch.where(evidence.valid & (tile_word != UNKNOWN_WORD_INDEX), words, UNKNOWN_WORD_INDEX)


class AlignmentModule(pl.LightningModule):
    """Tunes projector and look-twice adapter against the words of the closed list."""

    def __init__(
        self,
        projector: torch.nn.Module,
        look_twice: torch.nn.Module | None,
        *,
        vocabulary: Vocabulary,
        weights: AlignmentLoss,
        optimisation: Optimisation,
    ) -> None:
        """Takes the two parts of a model that this stage trains.

        Args:
            projector: final features (T, N, Df) -> tokens (T, N, D).
            look_twice: (evidence, tokens) -> LookTwiceOutput; None if the model has no adapter.
            vocabulary: the closed list.
            weights: of the loss terms.
            optimisation: rates of the groups "projector" and "look_twice".
        """
        super().__init__()
        self.projector = projector
        self.look_twice = look_twice
        self.strict_loading = False  # checkpoints hold part of the keys; on_load_checkpoint checks which
        # Not a persistent buffer: the words belong to the frozen language model, not to what is learned.
        self._words: torch.Tensor
        self.register_buffer("_words", F.normalize(vocabulary.vectors.clone(), dim=-1), persistent=False)
        self._weights = weights
        self._optimisation = optimisation

    def trainable_groups(self) -> ParameterGroups:
        """Returns the parameters by group name."""
        groups = {"projector": list(self.projector.parameters())}
        if self.look_twice is not None:
            groups["look_twice"] = list(self.look_twice.parameters())
        return groups

    def training_step(self, windowed: WindowedBatch, batch_idx: int) -> dict[str, torch.Tensor]:
        """Returns the loss of one batch and its terms.

        Raises:
            DivergedError: if the loss is not finite.
        """
        del batch_idx
        batch = windowed.batch
        assert isinstance(batch, AlignmentBatch)
        tokens = self.projector(batch.evidence.final)  # (T, N, D)
        words = token_words(batch)
        token_loss = self._word_loss(tokens.flatten(0, 1), words.flatten())
        second_loss = image_loss = torch.zeros_like(token_loss)
        if self.look_twice is not None:
            output = self.look_twice(batch.evidence, tokens)
            second_loss = self._second_look_loss(output, batch)
            num_scored = (~batch.view_anomalous.isnan()).sum().clamp(min=1)
            loss_sum = image_loss_sum(output.image_logits, batch.view_anomalous, pos_weight=self._weights.pos_weight)
            image_loss = loss_sum / num_scored
        loss = token_loss + self._weights.second_look_weight * second_loss + self._weights.bce_weight * image_loss
        require_finite_loss(loss, module=self)
        terms = {"total": loss, "token": token_loss, "second_look": second_loss, "image": image_loss}
        return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}

    def _second_look_loss(self, output: LookTwiceOutput, batch: AlignmentBatch) -> Float[torch.Tensor, ""]:
        num_selected = output.second_look.shape[1]
        words = batch.view_word[:, None].expand(-1, num_selected)  # (I, K)
        return self._word_loss(output.second_look.flatten(0, 1), words.flatten())

    def _word_loss(self, tokens: Float[torch.Tensor, "n D"], words: Int[torch.Tensor, " n"]) -> Float[torch.Tensor, ""]:
        similarity = F.normalize(tokens.float(), dim=-1) @ self._words.T
        logits = similarity / self._weights.temperature
        return class_balanced_cross_entropy(logits, words.clamp(min=0), words != UNKNOWN_WORD_INDEX)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW over the two groups and the schedule."""
        return make_optimiser(self, self.trainable_groups(), optimisation=self._optimisation)

    def on_train_start(self) -> None:
        """Sets train mode where something learns, eval mode elsewhere."""
        train_only_what_learns(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps trainable tensors only."""
        keep_trainable_only(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of other tensors."""
        require_trainable_exactly(self, checkpoint)
