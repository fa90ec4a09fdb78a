"""A sample as a person can check it: encoded sample in; text, runs of tokens and their numbers out."""

from dataclasses import dataclass
from itertools import groupby

from velm_train.collation.render import EncodedSample, PromptRenderer
from velm_train.core.batch import IGNORE_INDEX

SUPERVISED_OPEN, SUPERVISED_CLOSE = ">>>", "<<<"
"""Around each run of tokens that carry loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRun:
    """Neighbouring tokens of one kind.

    Attributes:
        text: decoded, or the placeholder's name.
        placeholder: True if every token stands for a part of a view.
        supervised: True if every token carries loss.
    """

    text: str
    num_tokens: int
    placeholder: bool
    supervised: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenCounts:
    """Where a sample's tokens go.

    Attributes:
        text: tokens of words and chat format, the supervised ones among them.
        image: tokens that stand for parts of views, looked at once or twice.
        supervised: tokens that carry loss.
    """

    text: int
    image: int
    supervised: int

    @property
    def total(self) -> int:
        """The length of the sample."""
        return self.text + self.image


def preview(encoded: EncodedSample, *, renderer: PromptRenderer) -> str:
    """Returns identifiers, views, options and the text that the model reads, placeholders counted.

    Args:
        encoded: what to show.
        renderer: what encoded it.
    """
    sample = encoded.sample
    lines = [
        f"sample    {sample.sample_id}",
        f"tokens    {len(encoded.input_ids)}, {encoded.num_supervised} of them supervised",
        *(f"view      {view.kind} {view.image_id} {view.box_xyxy}" for view in sample.views),
        *(f"option    {option.answer} = {option.defect_type}" for option in sample.options),
        *(f"from      {name}: {value}" for name, value in sorted(sample.provenance.items())),
        f"target    {sample.target}",
        marked_text(encoded, renderer=renderer),
    ]
    return "\n".join(lines)


def marked_text(encoded: EncodedSample, *, renderer: PromptRenderer) -> str:
    """Returns the decoded tokens; runs of placeholders are counted, supervised runs stand between >>> and <<<."""
    pieces: list[str] = []
    for run in token_runs(encoded, renderer=renderer):
        text = f"{run.text}x{run.num_tokens}" if run.placeholder else run.text
        pieces.append(f"{SUPERVISED_OPEN}{text}{SUPERVISED_CLOSE}" if run.supervised else text)
    return "".join(pieces)


def token_runs(encoded: EncodedSample, *, renderer: PromptRenderer) -> list[TokenRun]:
    """Returns the sample's tokens in order, neighbours of one kind together."""
    placeholders = {renderer.image_id: renderer.image_token, renderer.inspect_id: renderer.inspect_token}
    tokens = zip(encoded.input_ids, encoded.labels, strict=True)

    def kind(token: tuple[int, int]) -> tuple[bool, int | None]:
        token_id, label = token
        return label != IGNORE_INDEX, token_id if token_id in placeholders else None

    runs: list[TokenRun] = []
    for (supervised, placeholder), members in groupby(tokens, key=kind):
        ids = [token_id for token_id, _ in members]
        text = str(renderer.tokenizer.decode(ids)) if placeholder is None else placeholders[placeholder]
        runs.append(
            TokenRun(text=text, num_tokens=len(ids), placeholder=placeholder is not None, supervised=supervised)
        )
    return runs


def count_tokens(encoded: EncodedSample, *, renderer: PromptRenderer) -> TokenCounts:
    """Counts a sample's tokens by what they stand for."""
    num_image = sum(token_id in (renderer.image_id, renderer.inspect_id) for token_id in encoded.input_ids)
    return TokenCounts(text=len(encoded.input_ids) - num_image, image=num_image, supervised=encoded.num_supervised)
