"""Rows as they were found go in with label lists and truth; `Prediction` rows that can be scored come out.

The label lists are fixed beforehand. An answer that is on none of them never adds a class: it is unparsed, and wrong.
Nothing is dropped: what cannot be used stops with its place in the file, what counts as wrong is said in the notes.
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from velm_train.core.errors import DataError
from velm_train.core.published import LabelledAnswer
from velm_train.core.records import NO_DEFECT_OPTION, NONE_OF_THESE_OPTION, NORMAL_DEFECT_TYPE, Prediction
from velm_train.core.taxonomy import Taxonomy
from velm_train.reporting.imports.raw import RawPredictions, RawRow
from velm_train.reporting.imports.truth import GroundTruth, Truth
from velm_train.reporting.imports.velm_release import UNPARSED

MissingImages = Literal["refuse", "wrong"]
"""What images of the test set without a prediction are: a reason to stop, or wrong."""

ONE_GROUP = "all"
MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The fixed label lists.

    Attributes:
        sets: category -> defect types, without "good".
        names: category -> what else may be said for a type -> the type; both as `as_read` gives them.
    """

    sets: Mapping[str, tuple[str, ...]]
    names: Mapping[str, Mapping[str, str]]

    def meaning(self, category: str, answer: str) -> str | None:
        """Returns the type, "good" or "none of these" that an answer stands for, or None if it is unparsed."""
        said = as_read(answer)
        if said in (NORMAL_DEFECT_TYPE, NO_DEFECT_OPTION):
            return NORMAL_DEFECT_TYPE
        if said == NONE_OF_THESE_OPTION:
            return NONE_OF_THESE_OPTION
        known = {as_read(name): name for name in self.sets[category]}
        if category in self.names:
            known = {**self.names[category], **known}
        return known[said] if said in known else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """Rows that can be scored.

    Attributes:
        predictions: one an image, in the order of the file, images without prediction last.
        answers: the same with what was said in words, for the evaluation released with VELM.
        notes: sentences that a reader of the scores must not miss.
    """

    predictions: tuple[Prediction, ...]
    answers: tuple[LabelledAnswer, ...]
    notes: tuple[str, ...]


def as_read(text: str) -> str:
    """Returns text as answers are compared: without outer blanks, case and one trailing full stop."""
    return text.strip().lower().removesuffix(".").rstrip()


def labels_of(sets: Mapping[str, Sequence[str]], taxonomy: Taxonomy | None = None) -> Labels:
    """Returns label lists whose types may also be called by their display names."""
    known = {} if taxonomy is None else taxonomy.categories
    return Labels(
        sets={category: tuple(types) for category, types in sets.items()},
        names={
            category: {
                as_read(kind.display_name): name
                for name, kind in known[category].defect_types.items()
                if name in sets[category]
            }
            for category in sets
            if category in known
        },
    )


def fit_rows(raw: RawPredictions, *, labels: Labels, truth: Truth | None, missing: MissingImages) -> Fitted:
    """Turns rows into predictions.

    Args:
        raw: what a reader found.
        labels: the fixed label lists.
        truth: every image of the test set, or None to believe the file.
        missing: what becomes of images of `truth` that have no row.

    Raises:
        DataError: naming the row whose image is unknown, whose truth is missing, contradicted or on no label list, or
            that contradicts itself; or the images without a prediction.
    """
    scored = [row.anomaly_score is not None for row in raw.rows]
    if any(scored) and not all(scored):
        raise DataError(
            f"{raw.path}, {raw.rows[scored.index(False)].where}: no anomaly score, while others have one; "
            "give all rows one or none"
        )
    predictions, answers, unparsed = [], [], []
    for row in raw.rows:
        shown = _ground_truth(raw, row, truth)
        if shown.category not in labels.sets:
            raise DataError(
                f"{raw.path}, {row.where}: category {shown.category!r} has no label list; known: "
                f"{', '.join(sorted(labels.sets))}"
            )
        if shown.defect_type not in (NORMAL_DEFECT_TYPE, *labels.sets[shown.category]):
            raise DataError(
                f"{raw.path}, {row.where}: the true type {shown.defect_type!r} is not on the label list of "
                f"{shown.category}: {', '.join(labels.sets[shown.category])}"
            )
        meaning = labels.meaning(shown.category, row.answer)
        if meaning is None:
            unparsed.append(row)
        predictions.append(_prediction(raw, row, shown, meaning))
        answers.append(_answer(row.image_id, shown, row.answer if meaning is None else meaning))
    absent = _absent(raw, truth, missing=missing)
    for image_id, shown in absent.items():
        predictions.append(_absent_prediction(image_id, shown))
        answers.append(_answer(image_id, shown, ""))
    notes = (*raw.notes, *_notes(raw, unparsed, absent), *_empty_types(labels, predictions))
    return Fitted(predictions=tuple(predictions), answers=tuple(answers), notes=notes)


def _ground_truth(raw: RawPredictions, row: RawRow, truth: Truth | None) -> GroundTruth:
    said = (row.category, row.gt_defect_type)
    if truth is None:
        for name, value in zip(("category", "defect_type"), said, strict=True):
            if value is None:
                raise DataError(
                    f"{raw.path}, {row.where}: {row.image_id!r} has no {name}; add it to the file or give the truth "
                    "in score.truth"
                )
        assert row.category is not None
        assert row.gt_defect_type is not None
        return GroundTruth(category=row.category, defect_type=row.gt_defect_type, group=row.group)
    if row.image_id not in truth:
        near = difflib.get_close_matches(row.image_id, list(truth), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{raw.path}, {row.where}: image {row.image_id!r} is not in the test set{hint}")
    known = truth[row.image_id]
    for name, value, true in zip(("category", "true type"), said, (known.category, known.defect_type), strict=True):
        if value not in (None, true):
            raise DataError(f"{raw.path}, {row.where}: {row.image_id!r} has {name} {value!r}, in the truth {true!r}")
    return replace(known, group=row.group) if known.group is None else known


def _prediction(raw: RawPredictions, row: RawRow, shown: GroundTruth, meaning: str | None) -> Prediction:
    flagged = meaning != NORMAL_DEFECT_TYPE if row.flagged is None else row.flagged
    if not flagged and meaning != NORMAL_DEFECT_TYPE:
        raise DataError(
            f"{raw.path}, {row.where}: the gate let {row.image_id!r} pass, but the answer is {row.answer!r}; an image "
            "that is not flagged is 'good'"
        )
    named = None if meaning == NONE_OF_THESE_OPTION else meaning
    group = ONE_GROUP if shown.group is None else shown.group
    if row.source is not None:
        return replace(row.source, gt_defect_type=shown.defect_type, pred_defect_type=named, group=group)
    return Prediction(
        image_id=row.image_id,
        category=shown.category,
        group=group,
        gt_defect_type=shown.defect_type,
        anomaly_score=float(flagged) if row.anomaly_score is None else row.anomaly_score,
        p_value=1.0 if row.p_value is None else row.p_value,
        pred_label=flagged,
        gate_policy=row.gate_policy,
        option_log_likelihoods={},
        pred_defect_type=named,
        response=_response(row, meaning),
        region_boxes_xyxy=(),
        seconds={},
        hashes={},
    )


def _response(row: RawRow, meaning: str | None) -> str:
    return row.said if meaning is None else NONE_OF_THESE_OPTION if meaning == NONE_OF_THESE_OPTION else ""


def _absent_prediction(image_id: str, shown: GroundTruth) -> Prediction:
    """Returns the row of an image that nobody said anything about: wrong, whatever it shows."""
    flagged = shown.defect_type == NORMAL_DEFECT_TYPE
    return Prediction(
        image_id=image_id,
        category=shown.category,
        group=ONE_GROUP if shown.group is None else shown.group,
        gt_defect_type=shown.defect_type,
        anomaly_score=float(flagged),
        p_value=1.0,
        pred_label=flagged,
        gate_policy="detector",
        option_log_likelihoods={},
        pred_defect_type=None if flagged else NORMAL_DEFECT_TYPE,
        response="",
        region_boxes_xyxy=(),
        seconds={},
        hashes={},
    )


def _answer(image_id: str, shown: GroundTruth, said: str) -> LabelledAnswer:
    return LabelledAnswer(
        image_id=image_id, category=shown.category, gt_label=shown.defect_type, pred_label=said or UNPARSED
    )


def _absent(raw: RawPredictions, truth: Truth | None, *, missing: MissingImages) -> dict[str, GroundTruth]:
    found = {row.image_id for row in raw.rows}
    absent = {} if truth is None else {name: shown for name, shown in truth.items() if name not in found}
    if absent and missing == "refuse":
        raise DataError(
            f"{raw.path}: {len(absent)} of {0 if truth is None else len(truth)} images of the test set have no "
            f"prediction, for instance {_some(list(absent))}; add them or say score.missing=wrong"
        )
    if absent and any(row.anomaly_score is not None for row in raw.rows):
        raise DataError(
            f"{raw.path}: {len(absent)} images have no prediction and so no anomaly score, for instance "
            f"{_some(list(absent))}; add them"
        )
    return absent


def _notes(raw: RawPredictions, unparsed: Sequence[RawRow], absent: Mapping[str, GroundTruth]) -> list[str]:
    notes = []
    if unparsed:
        said = [f"{text!r} ({count})" for text, count in Counter(row.said for row in unparsed).most_common(MAX_NAMED)]
        notes.append(
            f"{len(unparsed)} of {len(raw.rows)} answers name no type of their category's list and count as wrong, the "
            f"first in {unparsed[0].where}: {', '.join(said)}{', ...' if len(said) == MAX_NAMED else ''}."
        )
    if absent:
        notes.append(f"{len(absent)} images without a prediction count as wrong: {_some(list(absent))}.")
    if any(row.flagged is None for row in raw.rows):
        notes.append("The file does not say what the gate decided: every answer but 'good' is taken as flagged.")
    return notes


def _empty_types(labels: Labels, predictions: Sequence[Prediction]) -> list[str]:
    present = {(row.category, row.gt_defect_type) for row in predictions}
    categories = {row.category for row in predictions}
    absent = [name for name in labels.sets if name not in categories]
    empty = [
        f"{name}/{kind}"
        for name, kinds in labels.sets.items()
        for kind in kinds
        if name in categories and (name, kind) not in present
    ]
    notes = []
    if absent:
        notes.append(f"{len(absent)} listed categories have no image and are in no figure: {_some(absent)}.")
    if empty:
        notes.append(f"{len(empty)} listed types have no image and are in no figure: {_some(empty)}.")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")
