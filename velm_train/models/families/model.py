"""A batch in, language loss, option scores or responses out: a Hugging Face vision-language model with a second look.

views ─► tap.read (frozen tower) ─► evidence ─┬─► tap.first_look (the family's projector) ──┬─► rows of the image ids
                                              └─► LookTwice ◄── projected, spread to tokens ┘   rows of the inspect ids
input_ids ─► word embeddings ─► placeholders filled ─► the family's language model with LoRA ─► logits

Without adapter and LoRA the logits are those of the family's own forward. Inspect ids count as text for M-RoPE and
get no deepstack features; first-look rows are never changed.
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
from velm_train.core.errors import ConfigError, DataError
from velm_train.core.records import SizeHW
from velm_train.models.answer_loss import answer_loss
from velm_train.models.families.decoder import PromptedLanguageModel, PromptInputs, rope_positions
from velm_train.models.families.identity import model_identity
from velm_train.models.families.tap import FamilyTap, FirstLook, no_look, spread
from velm_train.models.families.writer import INSPECT_TOKEN, ViewWriter
from velm_train.models.generation import generate_greedily
from velm_train.models.look_twice.adapter import LookTwice
from velm_train.models.lora import describe_lora, has_lora, merged
from velm_train.models.modes import evaluating
from velm_train.models.option_scoring import score_options
from velm_train.models.packing.layout import RowLayout, lay_out
from velm_train.models.padding import right_padded
from velm_train.models.placeholders import fill_placeholders
from velm_train.models.prefix import Prefix, positions_of, prefill
from velm_train.models.protocol import LookTwiceOutput, TrainingOutput
from velm_train.models.saving import AdapterDescription, load_adapter, save_adapter


class HFVisionLanguageModel(nn.Module):
    """Any of the families, with a frozen tower, an optional look-twice adapter and optional LoRA."""

    def __init__(
        self,
        *,
        vlm: PreTrainedModel | PeftModel,
        writer: ViewWriter,
        look_twice: LookTwice | None,
        weights_identity: str,
        train_projector: bool = False,
    ) -> None:
        """Puts the parts together; what does not learn is frozen here.

        Args:
            vlm: the family's model, bare or wrapped by peft.
            writer: holds processor and tap.
            look_twice: None for no second look.
            weights_identity: hash of the model's own weights.
            train_projector: True to let the family's projector learn, in float32.
        """
        super().__init__()
        if not isinstance(vlm, PeftModel):
            vlm.requires_grad_(False)
        self.language_model = vlm
        self.look_twice = look_twice
        self.writer = writer
        self.image_token_id = int(writer.tokenizer.convert_tokens_to_ids(writer.image_token))
        self.inspect_token_id = int(writer.tokenizer.convert_tokens_to_ids(INSPECT_TOKEN))
        self._train_projector = train_projector
        if train_projector:
            self.projector.float().requires_grad_(True)
        self.evidence_identity, self.identity = model_identity(writer, weights=weights_identity, dtype=self._vlm.dtype)
        self.train(self.training)

    @property
    def _vlm(self) -> PreTrainedModel:
        return (
            self.language_model.get_base_model() if isinstance(self.language_model, PeftModel) else self.language_model
        )

    @property
    def _tap(self) -> FamilyTap:
        return self.writer.tap

    @property
    def projector(self) -> nn.Module:
        """The family's own projector."""
        return self._tap.projector(self._vlm)

    @property
    def num_second_look(self) -> int:
        """Inspect placeholders per view; 0 without adapter."""
        return 0 if self.look_twice is None else self.look_twice.num_tokens

    @property
    def feature_dtype(self) -> torch.dtype:
        """That of the frozen tower, so that its features lie on disk as they are."""
        return next(parameter.dtype for parameter in self._tap.tower(self._vlm).parameters())

    @property
    def max_context(self) -> int:
        """Longest prompt and answer the language model was made for, tokens."""
        return int(self._vlm.config.get_text_config().max_position_embeddings)

    @property
    def decoder(self) -> nn.Module:
        """The language model without its output layer, LoRA inside."""
        return self._tap.decoder(self._vlm)

    def view_token_ids(self, size_hw: SizeHW) -> tuple[int, ...]:
        """Returns what stands for a view in a prompt; see the protocol."""
        return self.writer(size_hw)

    def evidence_shape(self, size_hw: SizeHW) -> tuple[int, int]:
        """Returns tiles of a view and tokens of the largest; see the protocol."""
        grids_hw = self.writer.layout(size_hw).grids_hw
        return len(grids_hw), max(rows * columns for rows, columns in grids_hw)

    def train(self, mode: bool = True) -> "HFVisionLanguageModel":
        """Sets the mode of everything but the frozen tower, which stays in eval mode."""
        super().train(mode)
        self._tap.tower(self._vlm).eval()
        return self

    def encode_views(self, views: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> VisionEvidence:
        """Runs the tower, without gradients unless LoRA learns in it; `map_scores` are zero.

        Raises:
            DataError: if a view is empty or of a shape that the family cannot take, naming its number.
        """
        assert views, "at least one view is needed"
        layouts = []
        for number, view in enumerate(views):
            try:
                layouts.append(self.writer.layout((view.shape[0], view.shape[1])))
            except DataError as error:
                raise DataError(f"view {number}: {error}") from error
        with torch.set_grad_enabled(torch.is_grad_enabled() and has_lora(self._tap.tower(self._vlm))):
            return self._tap.read(self._vlm, self.writer.processor, views, layouts)

    def look(self, evidence: VisionEvidence) -> tuple[FirstLook, LookTwiceOutput | None]:
        """Returns what the language model reads of the first look, and what the adapter says, if there is one."""
        with nullcontext() if self._train_projector or evidence.final.requires_grad else torch.no_grad():
            first = self._tap.first_look(self._vlm, evidence)
        if self.look_twice is None:
            return first, None
        return first, self.look_twice(evidence, spread(first, evidence))

    def read(self, batch: Batch, *, layout: RowLayout | None = None) -> tuple[PromptInputs, LookTwiceOutput | None]:
        """Returns what the language model reads of a right-padded batch, as it lies or laid out as one row."""
        input_ids = batch.input_ids if layout is None else layout.pick(batch.input_ids)
        is_image = input_ids == self.image_token_id
        is_inspect = input_ids == self.inspect_token_id
        embeds = self._vlm.get_input_embeddings()(input_ids.masked_fill(is_image | is_inspect, 0))
        first, second = self.look(batch.evidence) if len(batch.view_sample) else (no_look(embeds), None)
        embeds = fill_placeholders(embeds, is_image, first.tokens)
        if second is None:
            assert not bool(is_inspect.any()), "inspect placeholders in a batch for a model without look-twice adapter"
        else:
            embeds = fill_placeholders(embeds, is_inspect, second.second_look.flatten(0, 1))
        inputs = PromptInputs(
            embeds=embeds,
            attention_mask=batch.attention_mask if layout is None else torch.ones_like(input_ids),
            is_image=is_image,
            rope=rope_positions(self._vlm, batch, image_token_id=self.image_token_id, layout=layout),
            deepstack=first.deepstack,
            layout=layout,
        )
        return inputs, second

    def hidden(self, inputs: PromptInputs) -> Float[torch.Tensor, "_ T D"]:
        """Returns the last hidden states of prompts as a whole, without a cache."""
        hidden: torch.Tensor = self._prompted(inputs)(
            inputs_embeds=inputs.embeds,
            attention_mask=inputs.attention_mask,
            position_ids=positions_of(inputs.attention_mask) if inputs.layout is None else inputs.layout.counts[None],
            use_cache=False,
        ).last_hidden_state
        return hidden

    def training_output(self, batch: Batch) -> TrainingOutput:
        """Runs the language model; see the protocol."""
        batch = right_padded(batch)
        layout = None if batch.bundles is None else lay_out(batch)
        inputs, look = self.read(batch, layout=layout)
        return answer_loss(self._prompted(inputs), self.hidden(inputs), batch.labels, layout=layout, look=look)

    @torch.no_grad()
    def option_log_likelihoods(
        self, batch: Batch, *, options: Sequence[Sequence[Sequence[int]]]
    ) -> list[Float[torch.Tensor, " options"]]:
        """Scores each row's options after its prompt; see the protocol."""
        with evaluating(self):
            inputs, _ = self.read(right_padded(batch))
            return score_options(
                self._prompted(inputs),
                inputs_embeds=inputs.embeds,
                attention_mask=inputs.attention_mask,
                options=options,
            )

    @torch.no_grad()
    def generate(self, batch: Batch, *, max_new_tokens: int) -> list[list[int]]:
        """Returns each row's greedy response as token ids without the stop token.

        Args:
            batch: prompts without answers; labels are ignored.
            max_new_tokens: longest response, at least 1.
        """
        with evaluating(self):
            prefix, language_model = self.prefill(batch)
            stop = self.writer.tokenizer.eos_token_id
            return generate_greedily(
                language_model, prefix, max_new_tokens=max_new_tokens, stop_token_ids=frozenset({int(stop)})
            )

    def prefill(self, batch: Batch) -> tuple[Prefix, PromptedLanguageModel]:
        """Runs the prompts of a batch once; returns what to continue from, and the model to continue with."""
        inputs, _ = self.read(right_padded(batch))
        language_model = self._prompted(inputs)
        prefix = prefill(language_model, inputs_embeds=inputs.embeds, attention_mask=inputs.attention_mask)
        return prefix, language_model

    def trainable_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Returns the parameters that learn, by group; a group without any is absent."""
        projector = {id(parameter) for parameter in self.projector.parameters()}
        learning = [parameter for parameter in self.language_model.parameters() if parameter.requires_grad]
        groups = {
            "lora": [parameter for parameter in learning if id(parameter) not in projector],
            "projector": [parameter for parameter in learning if id(parameter) in projector],
            "look_twice": [] if self.look_twice is None else list(self.look_twice.parameters()),
        }
        return {name: parameters for name, parameters in groups.items() if parameters}

    def merged_for_inference(self) -> AbstractContextManager[None]:
        """Adds LoRA into the base weights for the length of a `with` block: the same answers, sooner."""
        return merged(self.language_model) if isinstance(self.language_model, PeftModel) else nullcontext()

    @contextmanager
    def first_look_only(self) -> Iterator[None]:
        """Takes the look-twice adapter out for the length of a `with` block; prompts must not ask for it then."""
        adapter, writer = self.look_twice, self.writer
        self.look_twice, self.writer = None, writer.with_second_look(0)
        try:
            yield
        finally:
            self.look_twice, self.writer = adapter, writer

    def save_adapter(self, folder: Path) -> None:
        """Writes LoRA in PEFT's format, what else learns, and a manifest."""
        save_adapter(
            folder,
            description=self._description(),
            language_model=self._tuned(),
            parts=self._parts(),
            write_processor=self.writer.processor.save_pretrained,
        )

    def load_adapter(self, folder: Path) -> None:
        """Reads what `save_adapter` wrote.

        Raises:
            ArtifactError: if base, settings, keys or shapes differ, naming what does.
        """
        load_adapter(folder, description=self._description(), language_model=self._tuned(), parts=self._parts())

    def _tuned(self) -> PeftModel:
        if not isinstance(self.language_model, PeftModel):
            raise ConfigError(
                "this model was built without LoRA, so it has no adapter file; build it with lora settings"
            )
        return self.language_model

    def _parts(self) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {"projector": self.projector} if self._train_projector else {}
        return parts if self.look_twice is None else parts | {"look_twice": self.look_twice}

    def _description(self) -> AdapterDescription:
        look_twice = {"source": "off"} if self.look_twice is None else asdict(self.look_twice.settings)
        settings = {"lora": describe_lora(self._tuned()), "look_twice": look_twice}
        return AdapterDescription(family=self._tap.family, identity=self.identity, settings=settings)

    def _prompted(self, inputs: PromptInputs) -> PromptedLanguageModel:
        return PromptedLanguageModel(self._vlm, tap=self._tap, inputs=inputs)
