"""Training samples in; what the page and the terminal show of them out: cards, token numbers, text."""

from collections.abc import Sequence
from dataclasses import dataclass

from velm_train.cli.instruct import Material
from velm_train.cli.workshop import Workshop
from velm_train.collation.preview import TokenCounts, TokenRun, count_tokens, token_runs
from velm_train.collation.render import PromptRenderer
from velm_train.core.records import InstructionSample, View
from velm_train.pipeline.views import render_view
from velm_train.reporting.figures import jpeg_data_uri, thumbnail
from velm_train.reporting.preview_content import (
    MeanMax,
    RunKind,
    SampleCard,
    SampleOption,
    SampleRun,
    SampleSection,
    SampleView,
    TokenRow,
)

MAX_CARDS = 12
"""Samples on the page; more are only printed."""

VIEW_PX = 320
"""Longer side of a view on the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """A sample with its tokens counted."""

    sample: InstructionSample
    tokens: TokenCounts


def choose_samples(samples: Sequence[InstructionSample], *, num_samples: int) -> list[InstructionSample]:
    """Returns the first sample of every task, then the second of every task, and so on; every task at least once.

    Args:
        samples: in the order to choose in.
        num_samples: how many to return where the tasks are no more than that.
    """
    by_task: dict[str, list[InstructionSample]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append(sample)
    longest = max((len(members) for members in by_task.values()), default=0)
    turns = [members[rank] for rank in range(longest) for members in by_task.values() if rank < len(members)]
    return turns[: max(num_samples, len(by_task))]


def describe_samples(
    shop: Workshop,
    material: Material,
    chosen: Sequence[InstructionSample],
    *,
    renderer: PromptRenderer,
    max_tokens: int,
) -> SampleSection:
    """Counts the tokens of all samples and draws the chosen ones.

    Raises:
        DataError: if a sample's text holds one of the tokenizer's control tokens, or a picture cannot be read.
    """
    with shop.progress.stage("counting tokens", total=len(material.samples)) as advance:
        counted: list[Counted] = []
        places: set[int] = set()
        for sample in material.samples:
            tokens = count_tokens(renderer.encode(sample), renderer=renderer)
            counted.append(Counted(sample=sample, tokens=tokens))
            places.update(renderer.num_places(sample))
            advance(1)
    width_px = shop.config.regions.contour_width_px
    return SampleSection(
        cards=tuple(sample_card(sample, renderer=renderer, contour_width_px=width_px) for sample in chosen[:MAX_CARDS]),
        tokens=token_rows(counted),
        num_samples=len(material.samples),
        max_tokens=max_tokens,
        tokens_per_view=(min(places), max(places)),
        num_questions=len(material.questions),
    )


def sample_card(sample: InstructionSample, *, renderer: PromptRenderer, contour_width_px: int) -> SampleCard:
    """Returns one sample as the model sees it.

    Args:
        sample: with a target.
        renderer: what turns it into tokens.
        contour_width_px: line width of contours drawn on views.
    """
    encoded = renderer.encode(sample)
    tokens = count_tokens(encoded, renderer=renderer)
    return SampleCard(
        sample_id=sample.sample_id,
        task=sample.task,
        category=sample.category,
        views=tuple(_view(view, contour_width_px=contour_width_px) for view in sample.views),
        messages=tuple((message.role, message.text) for message in sample.messages),
        options=tuple(
            SampleOption(answer=option.answer, meaning=option.defect_type or "a type that is not listed")
            for option in sample.options
        ),
        target=sample.target,
        num_text=tokens.text,
        num_image=tokens.image,
        num_supervised=tokens.supervised,
        runs=tuple(_run(run) for run in token_runs(encoded, renderer=renderer)),
        provenance=sample.provenance,
    )


def token_rows(counted: Sequence[Counted]) -> tuple[TokenRow, ...]:
    """Returns one row a task in alphabetical order, and one over all if there are several tasks."""
    by_task: dict[str, list[TokenCounts]] = {}
    for one in sorted(counted, key=lambda one: one.sample.task):
        by_task.setdefault(one.sample.task, []).append(one.tokens)
    rows = [_token_row(task, members) for task, members in by_task.items()]
    if len(rows) > 1:
        rows.append(_token_row("all tasks", [one.tokens for one in counted]))
    return tuple(rows)


def _token_row(task: str, tokens: Sequence[TokenCounts]) -> TokenRow:
    return TokenRow(
        task=task,
        num_samples=len(tokens),
        text=MeanMax.of([one.text for one in tokens]),
        image=MeanMax.of([one.image for one in tokens]),
        supervised=MeanMax.of([one.supervised for one in tokens]),
        total=MeanMax.of([one.total for one in tokens]),
    )


def _view(view: View, *, contour_width_px: int) -> SampleView:
    picture = render_view(view, contour_width_px=contour_width_px)
    small = thumbnail(picture, max_side_px=VIEW_PX)
    return SampleView(
        kind=view.kind,
        image_id=view.image_id,
        uri=jpeg_data_uri(small),
        shown_hw=(small.shape[0], small.shape[1]),
        size_hw=(picture.shape[0], picture.shape[1]),
    )


def _run(run: TokenRun) -> SampleRun:
    kind: RunKind = "view" if run.placeholder else "supervised" if run.supervised else "text"
    return SampleRun(text=run.text, kind=kind, num_tokens=run.num_tokens)
