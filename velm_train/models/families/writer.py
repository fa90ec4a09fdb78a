"""A view's size in, the token ids that stand for it in a prompt out; no weights, so that loader workers can hold it.

Qwen       <|vision_start|> image ids <|vision_end|>                          inspect ids
LLaVA      image ids                                                          inspect ids
SmolVLM    marks and image ids of every crop, then of the whole view          inspect ids
InternVL   <img> image ids of every crop, then of the thumbnail </img>        inspect ids
"""

from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from velm_train.core.errors import DataError
from velm_train.core.records import SizeHW
from velm_train.models.families.tap import FamilyTap, ViewLayout

INSPECT_TOKEN = "<|inspect|>"
"""Reserved token of the second look; the model replaces it before lookup."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewWriter:
    """Turns a view's size into its span of token ids.

    Attributes:
        processor: the family's own; its tokenizer knows the inspect token.
        tap: of the family.
        num_second_look: inspect ids behind each view's image span.
        max_views: most views of one prompt; None for no limit.
    """

    processor: ProcessorMixin
    tap: FamilyTap
    num_second_look: int
    max_views: int | None = None
    _known: dict[SizeHW, tuple[int, ...]] = field(default_factory=dict, repr=False)

    def with_second_look(self, num_second_look: int) -> "ViewWriter":
        """Returns a writer of the same views with another number of inspect ids."""
        return ViewWriter(
            processor=self.processor, tap=self.tap, num_second_look=num_second_look, max_views=self.max_views
        )

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The processor's tokenizer."""
        tokenizer: PreTrainedTokenizerBase = self.processor.tokenizer
        return tokenizer

    @property
    def image_token(self) -> str:
        """The family's image token: what each first-look position holds, and what stands for a view in a chat."""
        return str(self.processor.image_token)

    def layout(self, size_hw: SizeHW) -> ViewLayout:
        """Returns the tiles of a view.

        Raises:
            DataError: if the view is empty or of a shape that the family cannot take.
        """
        if min(size_hw) < 1:
            raise DataError(f"a view of {size_hw[0]} x {size_hw[1]} px is empty; each side must be at least 1 px")
        return self.tap.layout(self.processor, size_hw)

    def __call__(self, size_hw: SizeHW) -> tuple[int, ...]:
        """Returns the ids of a view: the family's own span, then the inspect ids.

        Raises:
            DataError: if the view is empty or of a shape that the family cannot take.
        """
        if size_hw not in self._known:
            span = self.tap.span(self.processor, self.layout(size_hw))
            ids = self.tokenizer(span, add_special_tokens=False)["input_ids"]
            inspect_id = int(self.tokenizer.convert_tokens_to_ids(INSPECT_TOKEN))
            self._known[size_hw] = (*ids, *[inspect_id] * self.num_second_look)
        return self._known[size_hw]
