"""Predictions of the same questions in two wordings go in; what the words are worth comes out."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from velm_train.core.errors import DataError
from velm_train.core.language import LanguageRow
from velm_train.core.records import NORMAL_DEFECT_TYPE, Prediction
from velm_train.core.scores import Score
from velm_train.metrics.classification import balanced_recall_values
from velm_train.metrics.intervals import bootstrap_score, proportion, stratified_weights
from velm_train.metrics.table import NO_UNKNOWN_TYPES, PredictionTable, make_table

NO_IMAGES = "the gate flagged no defective image in a category that this check changes"


def language_row(
    check: str,
    own: Sequence[Prediction],
    other: Sequence[Prediction],
    *,
    label_sets: Mapping[str, Sequence[str]],
    unknown_types: Mapping[str, Sequence[str]] = NO_UNKNOWN_TYPES,
    compares_words: bool,
    num_bootstrap: int,
    seed: int,
) -> LanguageRow:
    """Returns what one change of wording does to the answers.

    Args:
        check: its name.
        own: with the names as taught; images that `other` lacks are left out.
        other: with the names changed.
        label_sets: category -> its defect types, without "good".
        unknown_types: category -> those of its types that nobody was taught.
        compares_words: whether the shown words are the same set in both, so that an answer can stay the same word.
        num_bootstrap: resamples for the intervals.
        seed: root seed.

    Raises:
        DataError: if `other` has an image that `own` lacks.
    """
    before, after = _paired(own, other)
    if not before:
        nothing = Score.undefined(NO_IMAGES)
        return LanguageRow(
            check=check,
            num_images=0,
            own_words=nothing,
            other_words=nothing,
            difference=nothing,
            same_type=nothing,
            same_word=nothing if compares_words else None,
        )
    tables = [make_table(rows, label_sets=label_sets, unknown_types=unknown_types) for rows in (before, after)]
    weights = stratified_weights(tables[0].strata, num_bootstrap=num_bootstrap, seed=seed)
    same = np.array([a.pred_defect_type == b.pred_defect_type for a, b in zip(before, after, strict=True)])
    word = np.array([_word(a) == _word(b) for a, b in zip(before, after, strict=True)])
    return LanguageRow(
        check=check,
        num_images=len(before),
        own_words=_recall(tables[0], weights),
        other_words=_recall(tables[1], weights),
        difference=bootstrap_score(lambda w: _values(tables[1], w) - _values(tables[0], w), weights, n=len(before)),
        same_type=proportion(same, if_empty=NO_IMAGES),
        same_word=proportion(word, if_empty=NO_IMAGES) if compares_words else None,
    )


def _paired(own: Sequence[Prediction], other: Sequence[Prediction]) -> tuple[list[Prediction], list[Prediction]]:
    """Returns the defective flagged images of both, by image_id."""
    known = {row.image_id: row for row in own}
    lost = sorted(row.image_id for row in other if row.image_id not in known)
    if lost:
        raise DataError(f"{len(lost)} images were asked in other words only, for instance {lost[0]!r}; ask both ways")
    asked = sorted(
        (row for row in other if row.gt_defect_type != NORMAL_DEFECT_TYPE and row.option_log_likelihoods),
        key=lambda row: row.image_id,
    )
    return [known[row.image_id] for row in asked], asked


def _word(row: Prediction) -> str:
    """Returns the likeliest option as it was shown."""
    return max(row.option_log_likelihoods.items(), key=lambda item: item[1])[0]


def _everything(table: PredictionTable) -> Bool[np.ndarray, " n"]:
    return np.ones(len(table), dtype=np.bool_)


def _values(table: PredictionTable, weights: np.ndarray) -> np.ndarray:
    return balanced_recall_values(table, weights, among=_everything(table))


def _recall(table: PredictionTable, weights: np.ndarray) -> Score:
    return bootstrap_score(lambda w: _values(table, w), weights, n=len(table), hits=table.correct)
