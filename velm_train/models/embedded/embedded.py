"""A batch in, language loss, option scores or responses out: the embedded vision-language model.

evidence ─► VisionProjector ─► projected (T, N, D) ─┬─► block means ─► first look ──┐
       └─────────────────────────────► LookTwice ◄──┘ ─► second look ───────────────┤ rows of the placeholders
input_ids ─► word embeddings ───────────────────────────────────────────────────────┴─► LM with LoRA ─► logits
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from velm_train.core.batch import Batch, VisionEvidence
from velm_train.core.errors import ConfigError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import SizeHW
from velm_train.models.answer_loss import answer_loss
from velm_train.models.embedded.projector import VisionProjector, check_first_look_grid, pool_first_look
from velm_train.models.embedded.vision import TwoTowers
from velm_train.models.generation import generate_greedily
from velm_train.models.look_twice.adapter import LookTwice
from velm_train.models.look_twice.geometry import global_tiles, object_tokens
from velm_train.models.lora import describe_lora, merged
from velm_train.models.modes import evaluating
from velm_train.models.option_scoring import score_options
from velm_train.models.packing.attention import no_mask
from velm_train.models.packing.layout import RowLayout, lay_out
from velm_train.models.padding import right_padded
from velm_train.models.placeholders import fill_placeholders
from velm_train.models.prefix import Prefix, positions_of, prefill
from velm_train.models.protocol import LookTwiceOutput, TrainingOutput
from velm_train.models.saving import AdapterDescription, WriteProcessor, load_adapter, save_adapter

FAMILY = "embedded"


class EmbeddedVLM(nn.Module):
    """Two frozen towers, a projector, an optional look-twice adapter and a causal language model with LoRA.

    The placeholder ids are the first two beyond the vocabulary. They have no embedding rows: the visual tokens
    take their places. Trainers that keep pretrained modules in eval mode must call `train()`, or LoRA dropout
    stays off.

    Attributes:
        write_tokenizer: puts the tokenizer's files beside saved weights; None for a model that knows none.
    """

    def __init__(
        self,
        *,
        towers: TwoTowers,
        language_model: PeftModel | PreTrainedModel,
        language_model_identity: str,
        projector: VisionProjector,
        look_twice: LookTwice | None,
    ) -> None:
        """Puts the parts together.

        Args:
            towers: the frozen encoders.
            language_model: a causal model wrapped by peft, or one with LoRA merged into its weights.
            language_model_identity: hash of its frozen weights.
            projector: into the language model's embedding space.
            look_twice: None for no second look.

        Raises:
            ConfigError: if the first-look grid does not divide the fine grid.
        """
        super().__init__()
        settings = towers.settings
        check_first_look_grid(settings.first_look_grid, token_grid=settings.token_grid)
        self.towers = towers
        self.language_model = language_model
        self.projector = projector
        self.look_twice = look_twice
        self.write_tokenizer: WriteProcessor | None = None
        vocab_size = int(self._causal_lm.config.vocab_size)
        self.image_token_id = vocab_size
        self.inspect_token_id = vocab_size + 1
        self.evidence_identity = towers.identity
        self.identity = sha256_json(
            {
                "family": FAMILY,
                "language_model": language_model_identity,
                "evidence": towers.identity,
                "first_look_grid": settings.first_look_grid,
            }
        )

    @property
    def _causal_lm(self) -> PreTrainedModel:
        return (
            self.language_model.get_base_model() if isinstance(self.language_model, PeftModel) else self.language_model
        )

    @property
    def token_grid_hw(self) -> SizeHW:
        """Rows and columns of fine visual tokens per tile."""
        return (self.towers.settings.token_grid, self.towers.settings.token_grid)

    @property
    def num_first_look(self) -> int:
        """Image placeholders per view."""
        return self.towers.settings.first_look_grid**2

    @property
    def num_second_look(self) -> int:
        """Inspect placeholders per view; 0 without adapter."""
        return 0 if self.look_twice is None else self.look_twice.num_tokens

    @property
    def feature_dtype(self) -> torch.dtype:
        """Both towers' features are of moderate size; half the disk is worth their last digits."""
        return torch.float16

    @property
    def max_context(self) -> int:
        """Longest prompt with its answer that the language model was made for, tokens."""
        return int(self._causal_lm.config.max_position_embeddings)

    @property
    def decoder(self) -> nn.Module:
        """The language model without its output layer, LoRA inside."""
        decoder: nn.Module = self._causal_lm.get_decoder()
        return decoder

    def view_token_ids(self, size_hw: SizeHW) -> tuple[int, ...]:
        """Returns the placeholders of a view, as many for every size."""
        del size_hw
        return (self.image_token_id,) * self.num_first_look + (self.inspect_token_id,) * self.num_second_look

    def evidence_shape(self, size_hw: SizeHW) -> tuple[int, int]:
        """Returns one tile, with as many tokens for every size."""
        del size_hw
        return 1, self.towers.settings.token_grid**2

    def encode_views(self, views: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> VisionEvidence:
        """Runs the frozen towers without gradients on pictures of any size; loads them at the first call."""
        return self.towers.encode(views, device=self.projector.hidden.weight.device)

    def look(self, evidence: VisionEvidence) -> tuple[Float[torch.Tensor, "I F D"], LookTwiceOutput | None]:
        """Returns the first-look tokens of every view and what the adapter says, if there is one.

        The first look shows the whole of a view; crops, if the evidence has any, serve the second look.
        """
        projected = self.projector(evidence.final)
        whole = global_tiles(evidence)  # (I,)
        first_look = pool_first_look(
            projected[whole],
            grid_hw=evidence.grid_hw[whole],
            valid=object_tokens(evidence)[whole],
            first_look_grid=self.towers.settings.first_look_grid,
        )
        return first_look, None if self.look_twice is None else self.look_twice(evidence, projected)

    def embed(
        self, batch: Batch, *, layout: RowLayout | None = None
    ) -> tuple[Float[torch.Tensor, "_ T D"], LookTwiceOutput | None]:
        """Returns input embeddings, as the batch lies or laid out as one row, with visual tokens in their places."""
        input_ids = batch.input_ids if layout is None else layout.pick(batch.input_ids)
        is_image = input_ids == self.image_token_id
        is_inspect = input_ids == self.inspect_token_id
        pad_id = self._causal_lm.config.pad_token_id or 0
        embeds = self._causal_lm.get_input_embeddings()(input_ids.masked_fill(is_image | is_inspect, pad_id))
        first_look, second = self.look(batch.evidence) if len(batch.view_sample) else (embeds[:0, :0], None)
        embeds = fill_placeholders(embeds, is_image, first_look.flatten(0, 1))
        if second is None:
            assert not bool(is_inspect.any()), "inspect placeholders in a batch for a model without look-twice adapter"
            return embeds, None
        return fill_placeholders(embeds, is_inspect, second.second_look.flatten(0, 1)), second

    def training_output(self, batch: Batch) -> TrainingOutput:
        """Runs the language model; see the protocol."""
        layout = None if batch.bundles is None else lay_out(batch)
        embeds, look = self.embed(batch, layout=layout)
        decoder = self._causal_lm.get_decoder()
        if layout is None:
            positions = positions_of(batch.attention_mask)
            output = decoder(
                inputs_embeds=embeds, attention_mask=batch.attention_mask, position_ids=positions, use_cache=False
            )
        else:
            output = decoder(
                inputs_embeds=embeds,
                attention_mask=no_mask(embeds.device),
                position_ids=layout.counts[None],
                use_cache=False,
                row_layout=layout,
            )
        return answer_loss(self._causal_lm, output.last_hidden_state, batch.labels, layout=layout, look=look)

    @torch.no_grad()
    def option_log_likelihoods(
        self, batch: Batch, *, options: Sequence[Sequence[Sequence[int]]]
    ) -> list[Float[torch.Tensor, " options"]]:
        """Scores each row's options after its prompt; see the protocol."""
        with evaluating(self):
            batch = right_padded(batch)
            embeds, _ = self.embed(batch)
            return score_options(
                self._causal_lm, inputs_embeds=embeds, attention_mask=batch.attention_mask, options=options
            )

    @torch.no_grad()
    def generate(self, batch: Batch, *, max_new_tokens: int) -> list[list[int]]:
        """Returns each row's greedy response as token ids without the stop token.

        Args:
            batch: prompts without answers; labels are ignored.
            max_new_tokens: longest response, at least 1.
        """
        with evaluating(self):
            return generate_greedily(
                self._causal_lm,
                self.prefill(batch),
                max_new_tokens=max_new_tokens,
                stop_token_ids=_as_ids(self._causal_lm.config.eos_token_id),
            )

    def prefill(self, batch: Batch) -> Prefix:
        """Runs the prompts of a batch once, for responses to continue from."""
        batch = right_padded(batch)
        embeds, _ = self.embed(batch)
        return prefill(self._causal_lm, inputs_embeds=embeds, attention_mask=batch.attention_mask)

    def trainable_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Returns the parameters that learn; "look_twice" is absent without adapter."""
        groups = {"lora": self.language_model, "projector": self.projector, "look_twice": self.look_twice}
        return {
            name: [parameter for parameter in module.parameters() if parameter.requires_grad]
            for name, module in groups.items()
            if module is not None
        }

    def merged_for_inference(self) -> AbstractContextManager[None]:
        """Adds LoRA into the base weights for the length of a `with` block: the same answers, sooner."""
        return merged(self.language_model) if isinstance(self.language_model, PeftModel) else nullcontext()

    @contextmanager
    def first_look_only(self) -> Iterator[None]:
        """Takes the look-twice adapter out for the length of a `with` block; prompts must not ask for it then."""
        adapter, self.look_twice = self.look_twice, None
        try:
            yield
        finally:
            self.look_twice = adapter

    def save_adapter(self, folder: Path) -> None:
        """Writes LoRA in PEFT's format, projector, look-twice weights and a manifest."""
        save_adapter(
            folder,
            description=self._description(),
            language_model=self._tuned(),
            parts=self._parts(),
            write_processor=self.write_tokenizer,
        )

    def load_adapter(self, folder: Path) -> None:
        """Reads what `save_adapter` wrote.

        Raises:
            ArtifactError: if base, settings, keys or shapes differ, naming what does.
        """
        load_adapter(folder, description=self._description(), language_model=self._tuned(), parts=self._parts())

    def _tuned(self) -> PeftModel:
        if not isinstance(self.language_model, PeftModel):
            raise ConfigError("LoRA is merged into this model's weights; adapters belong to the model before merging")
        return self.language_model

    def _parts(self) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {"projector": self.projector}
        return parts if self.look_twice is None else parts | {"look_twice": self.look_twice}

    def _description(self) -> AdapterDescription:
        look_twice = {"source": "off"} if self.look_twice is None else asdict(self.look_twice.settings)
        settings = {"lora": describe_lora(self._tuned()), "look_twice": look_twice}
        return AdapterDescription(family=FAMILY, identity=self.identity, settings=settings)


def _as_ids(value: int | Sequence[int] | None) -> frozenset[int]:
    if value is None:
        return frozenset()
    return frozenset({value} if isinstance(value, int) else value)
