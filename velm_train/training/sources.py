"""Encoded samples and instruction samples go in; what the datamodule needs for each training stage comes out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from velm_train.collation.collate import ViewFeatures, stack_views
from velm_train.collation.render import EncodedSample
from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, InstructionSample, View
from velm_train.core.taxonomy import CategoryTaxonomy
from velm_train.training.alignment import Vocabulary
from velm_train.training.batches import NORMAL_WORD_INDEX, UNKNOWN_WORD_INDEX, AlignmentBatch
from velm_train.training.samplers import SampleFacts

logger = logging.getLogger(__name__)

ViewLabels = Callable[[InstructionSample], Sequence[float]]
"""Sample -> for each view 1 anomalous, 0 normal, NaN not to be scored."""


def facts_of(encoded: EncodedSample, *, view_anomalous: ViewLabels) -> SampleFacts:
    """Returns what sampling and loss normalisation need to know about an encoded training sample.

    Raises:
        DataError: if the sample's provenance does not say which type the answer is.
    """
    labels = view_anomalous(encoded.sample)
    answer_type = _provenance(encoded.sample, "answer_defect_type")
    return SampleFacts(
        sample_id=encoded.sample.sample_id,
        answer_type=answer_type,
        category=encoded.sample.category,
        false_alarm=answer_type == NORMAL_DEFECT_TYPE,
        num_tokens=len(encoded.input_ids),
        num_supervised=encoded.num_supervised,
        num_scored_views=sum(label == label for label in labels),  # noqa: PLR0124 - NaN differs from itself
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentItem:
    """One view for the alignment stage.

    Attributes:
        word_index: row of the vocabulary, or UNKNOWN_WORD_INDEX.
        anomalous: 1, 0, or NaN.
    """

    view: View
    word_index: int
    anomalous: float


def alignment_items(
    samples: Sequence[InstructionSample],
    *,
    categories: Mapping[str, CategoryTaxonomy],
    vocabulary: Vocabulary,
    view_anomalous: ViewLabels,
) -> list[AlignmentItem]:
    """Returns every different view of the training samples with the word its unusual tokens stand for.

    A whole view of a defective image that a false alarm was found in is left out of the word losses: its map marks
    the defect and the false alarm alike. So are types that are not in the vocabulary.

    Args:
        samples: training samples of any task.
        categories: category -> taxonomy, for display names.
        vocabulary: the words.
        view_anomalous: the same rule as in collation.

    Raises:
        DataError: if a sample's provenance does not say what the truth is.
    """
    items: dict[tuple[object, ...], AlignmentItem] = {}
    for sample in samples:
        for view, anomalous in zip(sample.views, view_anomalous(sample), strict=True):
            item = AlignmentItem(
                view=view, word_index=_word_index(sample, view, categories, vocabulary), anomalous=float(anomalous)
            )
            items.setdefault((view.kind, view.sha256, view.box_xyxy, item.word_index, str(anomalous)), item)
    unknown = sum(item.word_index == UNKNOWN_WORD_INDEX for item in items.values())
    logger.info("alignment: %d views, %d of them without a word", len(items), unknown)
    return list(items.values())


def alignment_facts(items: Sequence[AlignmentItem], *, num_tokens: int) -> list[SampleFacts]:
    """Returns the facts of alignment views, balanced over their words; `num_tokens` are the tokens of one view."""
    return [
        SampleFacts(
            sample_id=item.view.image_id,
            answer_type=str(item.word_index),
            category="",
            false_alarm=item.word_index == NORMAL_WORD_INDEX,
            num_tokens=num_tokens,
            num_supervised=num_tokens,
            num_scored_views=int(item.anomalous in (0.0, 1.0)),
        )
        for item in items
    ]


def collate_alignment(items: Sequence[AlignmentItem], *, features: Callable[[View], ViewFeatures]) -> AlignmentBatch:
    """Returns the batch of some views; features are looked up now."""
    return AlignmentBatch(
        evidence=stack_views([features(item.view) for item in items]),
        view_word=torch.tensor([item.word_index for item in items], dtype=torch.long),
        view_anomalous=torch.tensor([item.anomalous for item in items], dtype=torch.float32),
    )


def _word_index(
    sample: InstructionSample, view: View, categories: Mapping[str, CategoryTaxonomy], vocabulary: Vocabulary
) -> int:
    answer_type = _provenance(sample, "answer_defect_type")
    image_type = _provenance(sample, "image_defect_type")
    if view.kind == "reference":
        return NORMAL_WORD_INDEX
    if answer_type == NORMAL_DEFECT_TYPE:
        is_whole_defective = view.kind != "crop" and image_type != NORMAL_DEFECT_TYPE
        return UNKNOWN_WORD_INDEX if is_whole_defective else NORMAL_WORD_INDEX
    known = categories[sample.category].defect_types
    if answer_type not in known or known[answer_type].display_name not in vocabulary.words:
        return UNKNOWN_WORD_INDEX
    return vocabulary.index(known[answer_type].display_name)


def _provenance(sample: InstructionSample, key: str) -> str:
    if key not in sample.provenance:
        raise DataError(f"{sample.sample_id}: provenance lacks {key!r}; build the instructions again")
    return sample.provenance[key]
