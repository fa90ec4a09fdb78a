"""A sample as a person can check it: encoded sample in, text out, with the supervised tokens marked."""

from itertools import groupby

from velm_train.collation.render import EncodedSample, PromptRenderer
from velm_train.core.batch import IGNORE_INDEX

SUPERVISED_OPEN, SUPERVISED_CLOSE = ">>>", "<<<"
"""Around each run of tokens that carry loss."""


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
    placeholders = {renderer.image_id: renderer.image_token, renderer.inspect_id: renderer.inspect_token}
    tokens = zip(encoded.input_ids, encoded.labels, strict=True)

    def kind(token: tuple[int, int]) -> tuple[bool, int | None]:
        token_id, label = token
        return label != IGNORE_INDEX, token_id if token_id in placeholders else None

    pieces: list[str] = []
    for (supervised, placeholder), run in groupby(tokens, key=kind):
        ids = [token_id for token_id, _ in run]
        text = f"{placeholders[placeholder]}x{len(ids)}" if placeholder is not None else renderer.tokenizer.decode(ids)
        pieces.append(f"{SUPERVISED_OPEN}{text}{SUPERVISED_CLOSE}" if supervised else text)
    return "".join(pieces)
