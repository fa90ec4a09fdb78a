"""Chat turns to token ids: an instruction sample in, ids and labels out, supervised on answer and stop token only.

messages --chat template--> text --tokenizer--> ids --each view's placeholder--> num_first_look + num_second_look ids,
                                                                        or the family's own span for the view's size
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from velm_train.core.batch import IGNORE_INDEX
from velm_train.core.errors import AssetError, ConfigError, DataError
from velm_train.core.records import InstructionSample, Message, SizeHW, View

VIEW_PLACEHOLDER = "<image>"
"""What stands for a view in a message's text, whatever the model's own image token is."""

EMBEDDED_IMAGE_TOKEN = "<image>"
EMBEDDED_INSPECT_TOKEN = "<inspect>"
EMBEDDED_VOCABULARY_SIZE = 49_152
"""Rows of SmolLM2's embedding table; the two added ids lie beyond it and the model replaces them before lookup."""


def load_embedded_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Loads the SmolLM2 tokenizer and adds "<image>" as 49152 and "<inspect>" as 49153.

    Raises:
        AssetError: if the folder holds no tokenizer, or one with another vocabulary.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise AssetError(f"no tokenizer can be loaded from {folder} ({error}); run task=fetch again") from error
    if len(tokenizer) != EMBEDDED_VOCABULARY_SIZE:
        raise AssetError(
            f"the tokenizer in {folder} has {len(tokenizer)} entries instead of {EMBEDDED_VOCABULARY_SIZE}; "
            "run task=fetch again"
        )
    tokenizer.add_tokens([EMBEDDED_IMAGE_TOKEN, EMBEDDED_INSPECT_TOKEN], special_tokens=True)
    return tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedSample:
    """One sample as token ids.

    Attributes:
        input_ids: prompt, and in training the answer and the stop token.
        labels: as long as input_ids, unshifted; IGNORE_INDEX except on the answer and the stop token.
        sample: what was encoded.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    sample: InstructionSample

    @property
    def num_supervised(self) -> int:
        """Number of tokens that carry loss."""
        return sum(label != IGNORE_INDEX for label in self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyViews:
    """How prompts of a family whose views differ in length are written.

    Attributes:
        view_ids: ids that stand for a view of a size, second look included.
        max_views: most views of a prompt; None for no limit of the family's own.
        max_tokens: longest prompt with its answer that the language model was made for.
    """

    view_ids: Callable[[SizeHW], Sequence[int]]
    max_views: int | None
    max_tokens: int


class PromptRenderer:
    """Turns samples into token ids through a tokenizer's own chat template."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        image_token: str,
        inspect_token: str,
        num_first_look: int = 1,
        num_second_look: int = 0,
        system_text: str | None = "",
        answer_prefix: str = "",
        family: FamilyViews | None = None,
    ) -> None:
        """Checks that tokenizer and chat template suit the project.

        Args:
            tokenizer: with a chat template, and with both placeholder tokens added.
            image_token: token that each first-look position holds.
            inspect_token: token that each second-look position holds.
            num_first_look: first-look positions per view, at least 1; not read with `family`.
            num_second_look: second-look positions per view; 0 without look-twice adapter; not read with `family`.
            system_text: system turn of samples that bring none. The empty text keeps chat templates from putting
                in a long default (19 tokens for SmolLM2, against 5 for an empty turn); None sends no system turn.
            answer_prefix: put before every answer, such as " ", with which byte-pair tokenizers know more answers
                as one token.
            family: for models whose views take as many positions as their size asks for. Messages then go to the
                chat template as lists of parts, the form that templates of vision-language models take.

        Raises:
            ConfigError: if a token is unknown, or the chat template does not end an answer with the stop token.
        """
        assert num_first_look >= 1, num_first_look
        assert num_second_look >= 0, num_second_look
        self.tokenizer = tokenizer
        self.image_token = image_token
        self.inspect_token = inspect_token
        self.image_id = _token_id(tokenizer, image_token)
        self.inspect_id = _token_id(tokenizer, inspect_token)
        self.num_first_look = num_first_look
        self.num_second_look = num_second_look
        self._system_text = system_text
        self._answer_prefix = answer_prefix
        self._family = family
        self._reserved = _reserved_texts(tokenizer) | {image_token, inspect_token, VIEW_PLACEHOLDER}
        self._require_stop_token()

    def encode(self, sample: InstructionSample) -> EncodedSample:
        """Returns prompt, answer and stop token; only the last two carry loss.

        Raises:
            DataError: if the sample has no target, its text holds one of the tokenizer's control tokens, or it does
                not fit the family.
        """
        if not sample.target:
            raise DataError(f"{sample.sample_id}: no target to learn; train on labelled images only")
        prompt_ids, (answer_ids,) = self._encode(sample, answers=[sample.target])
        return EncodedSample(
            input_ids=(*prompt_ids, *answer_ids),
            labels=(*(IGNORE_INDEX for _ in prompt_ids), *answer_ids),
            sample=sample,
        )

    def encode_prompt(self, sample: InstructionSample) -> EncodedSample:
        """Returns the prompt alone, up to where the answer begins; no position carries loss.

        Raises:
            DataError: if the text holds one of the tokenizer's control tokens, or the sample does not fit the family.
        """
        prompt_ids, _ = self._encode(sample, answers=[])
        return EncodedSample(input_ids=tuple(prompt_ids), labels=tuple(IGNORE_INDEX for _ in prompt_ids), sample=sample)

    def encode_options(self, sample: InstructionSample) -> list[list[int]]:
        """Returns each option's ids with the stop token, as they follow the prompt, in the sample's order.

        Raises:
            DataError: if the text holds one of the tokenizer's control tokens.
        """
        _, option_ids = self._encode(sample, answers=[option.answer for option in sample.options])
        return option_ids

    def num_places(self, sample: InstructionSample) -> list[int]:
        """Returns how many positions each view of a sample fills, looked at once or twice.

        Raises:
            DataError: if a view does not fit the family.
        """
        spans = [self._span(view, sample) for view in sample.views]
        return [sum(token_id in (self.image_id, self.inspect_id) for token_id in span) for span in spans]

    def _encode(self, sample: InstructionSample, *, answers: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        self._require_views(sample)
        for text in [*(message.text.replace(VIEW_PLACEHOLDER, "") for message in sample.messages), *answers]:
            self._require_plain(text, sample_id=sample.sample_id)
        prompt = self._template(sample.messages)
        stop = self.tokenizer.eos_token
        texts = [prompt, *(f"{prompt}{self._answer_prefix}{answer}{stop}" for answer in answers)]
        # Answers are tokenised behind their prompt: alone, a first word may split otherwise.
        prompt_ids, *full_ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        for answer, ids in zip(answers, full_ids, strict=True):
            if ids[: len(prompt_ids)] != prompt_ids:
                raise DataError(f"{sample.sample_id}: the tokenizer merges the prompt's end with the answer {answer!r}")
        prompt_ids, answer_ids = self._with_views(prompt_ids, sample), [ids[len(prompt_ids) :] for ids in full_ids]
        self._require_fits(len(prompt_ids) + max(map(len, answer_ids), default=0), sample_id=sample.sample_id)
        return prompt_ids, answer_ids

    def _template(self, messages: Sequence[Message]) -> str:
        turns = [
            self._turn(message.role, message.text.replace(VIEW_PLACEHOLDER, self.image_token)) for message in messages
        ]
        if self._system_text is not None and all(message.role != "system" for message in messages):
            turns.insert(0, self._turn("system", self._system_text))
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _turn(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": text if self._family is None else [{"type": "text", "text": text}]}

    def _with_views(self, ids: Sequence[int], sample: InstructionSample) -> list[int]:
        assert ids.count(self.image_id) == len(sample.views), "the chat template leaves out or repeats a view"
        views = iter(sample.views)
        spans = (self._span(next(views), sample) if old == self.image_id else [old] for old in ids)
        return [new for span in spans for new in span]

    def _span(self, view: View, sample: InstructionSample) -> Sequence[int]:
        """Returns the ids of one view."""
        if self._family is None:
            return [self.image_id] * self.num_first_look + [self.inspect_id] * self.num_second_look
        try:
            return self._family.view_ids(view.size_hw)
        except DataError as error:
            raise DataError(f"{sample.sample_id}: {error}") from error

    def _require_fits(self, num_tokens: int, *, sample_id: str) -> None:
        if self._family is not None and num_tokens > self._family.max_tokens:
            raise DataError(
                f"{sample_id}: {num_tokens} tokens, more than the {self._family.max_tokens} of this model's context; "
                "show fewer or smaller views, or lower model.hub.max_pixels"
            )

    def _require_views(self, sample: InstructionSample) -> None:
        limit = None if self._family is None else self._family.max_views
        if limit is not None and len(sample.views) > limit:
            raise DataError(
                f"{sample.sample_id}: {len(sample.views)} views, this model takes {limit} at most; name fewer views in "
                "instructions.tasks"
            )

    def _require_plain(self, text: str, *, sample_id: str) -> None:
        found = sorted(token for token in self._reserved if token in text)
        if found:
            raise DataError(
                f"{sample_id}: the text holds the control tokens {found}; rename the defect type, noun or description "
                "that brings them"
            )

    def _require_stop_token(self) -> None:
        stop = self.tokenizer.eos_token
        question = [self._turn("user", "question")]
        answered = [*question, self._turn("assistant", "answer")]
        # Templates of some families write an answered turn with other blanks than the place for an answer.
        prompt = ""
        if self._family is None:
            prompt = self.tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        if stop is None or f"{prompt}answer{stop}" not in str(
            self.tokenizer.apply_chat_template(answered, tokenize=False)
        ):
            raise ConfigError(
                f"the chat template does not end an answer with the stop token {stop!r}; set the tokenizer's "
                "eos_token to the token that ends an assistant turn"
            )


def embedded_renderer(folder: Path, *, num_first_look: int, num_second_look: int) -> PromptRenderer:
    """Returns the renderer of the embedded model.

    Answers begin with a blank: " crack" and " scratch" are one token each, "crack" and "scratch" are two.

    Args:
        folder: where the converted SmolLM2 tokenizer lies.
        num_first_look: first-look positions per view.
        num_second_look: second-look positions per view.

    Raises:
        AssetError: if the folder holds no such tokenizer.
    """
    return PromptRenderer(
        load_embedded_tokenizer(folder),
        image_token=EMBEDDED_IMAGE_TOKEN,
        inspect_token=EMBEDDED_INSPECT_TOKEN,
        num_first_look=num_first_look,
        num_second_look=num_second_look,
        answer_prefix=" ",
    )


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    ids = tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ConfigError(f"{token!r} is not one token of this tokenizer; add it before rendering prompts")
    return int(ids[0])


def _reserved_texts(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | set(tokenizer.all_special_tokens)
