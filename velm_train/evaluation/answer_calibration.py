"""Predictions on images set aside go in, an `AnswerPolicy` comes out; with test predictions, what it is worth.

`calibrate_answers` sees calibration rows only, `report_answers` applies its result to test rows: whatever is decided
about answers is decided before any test row is read.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from velm_train.core.answer_scores import (
    AnswerPolicy,
    AnswerReport,
    CostMatrix,
    ImageBlindCheck,
    SetMethod,
    Temperature,
)
from velm_train.core.errors import DataError
from velm_train.core.records import Prediction
from velm_train.evaluation.temperature import fit_temperature
from velm_train.metrics.answer_table import AnswerTable, AnswerVocabulary, make_answer_table
from velm_train.metrics.conformal_sets import calibrate_sets, rows_needed, set_scores
from velm_train.metrics.intervals import stratified_weights
from velm_train.metrics.operating_point import choose_operating_point, cost_scores
from velm_train.metrics.proper_scores import confidence_scores
from velm_train.metrics.selective import certify_sorting, sort_scores

logger = logging.getLogger(__name__)

MIN_TEMPERATURE_ROWS = 20
"""Fewer answers than this leave the temperature at 1."""

SCOPE = (
    "The promises are about defective parts that the gate flags, of categories and types that calibration has seen, in "
    "the calibration images' mix of types; about false alarms, unknown types and other categories nothing is promised."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerSettings:
    """What is asked of answers.

    Attributes:
        set_method: score behind type sets.
        set_coverage: share of true types that the sets are to hold, above 0, below 1.
        max_error: largest error share among the answers acted on, above 0, below 1.
        sorting_confidence: chance that this bound holds, above 0, below 1.
        costs: of each outcome.
        defect_share: share of defective parts on the line, above 0, below 1.
    """

    set_method: SetMethod
    set_coverage: float
    max_error: float
    sorting_confidence: float
    costs: CostMatrix
    defect_share: float


def calibrate_answers(
    predictions: Sequence[Prediction],
    *,
    settings: AnswerSettings,
    vocabulary: AnswerVocabulary,
    parts: Mapping[str, str],
    normal_flag_rate: float,
) -> AnswerPolicy:
    """Returns everything that calibration rows decide about later answers.

    Temperature and operating point use every row. Sets and sorting promise something and so rest on defective parts
    alone, one image of each: how many false alarms there are among the rows says nothing about a line.

    Args:
        predictions: rows of images that had no part in training and none in the test.
        settings: what is asked.
        vocabulary: what can be true and how it is worded.
        parts: image_id -> the physical part it shows.
        normal_flag_rate: share of good parts that the gate flags, 0..1.

    Raises:
        DataError: if there are no rows, or they do not fit the label lists.
    """
    table = make_answer_table(predictions, vocabulary=vocabulary)
    temperature = _temperature(predictions, vocabulary)
    defects = _promised(table, parts)
    sets = calibrate_sets(defects, method=settings.set_method, coverage=settings.set_coverage)
    needed = rows_needed(settings.set_coverage)
    point = choose_operating_point(
        table,
        costs=settings.costs,
        defect_share=settings.defect_share,
        temperature=temperature.value,
        normal_flag_rate=normal_flag_rate,
    )
    policy = AnswerPolicy(
        temperature=temperature,
        sets=sets,
        sets_note="" if sets else f"needs {needed} flagged defective calibration parts, has {len(defects)}",
        sorting=certify_sorting(defects, max_error=settings.max_error, confidence=settings.sorting_confidence),
        operating_point=point,
        operating_note="" if point else "no defective image is among the calibration rows",
        categories=tuple(sorted(set(defects.category_names))),
        num_rows=int(table.asked.sum()),
        num_parts=len(defects),
    )
    logger.info("calibrated answers on %d rows, %d defective parts: %s", policy.num_rows, policy.num_parts, policy)
    return policy


def _temperature(predictions: Sequence[Prediction], vocabulary: AnswerVocabulary) -> Temperature:
    usable = [
        row for row in predictions if row.pred_label and vocabulary.gold_answer(row) in row.option_log_likelihoods
    ]
    if len(usable) < MIN_TEMPERATURE_ROWS:
        note = f"needs {MIN_TEMPERATURE_ROWS} answers, has {len(usable)}"
        return Temperature(value=1.0, num_rows=len(usable), nll_before=None, nll_after=None, note=note)
    return fit_temperature(
        [row.option_log_likelihoods for row in usable], [vocabulary.gold_answer(row) for row in usable]
    )


def _promised(table: AnswerTable, parts: Mapping[str, str]) -> AnswerTable:
    """Returns the first flagged defective image of each part: images of one part are no independent draws."""
    absent = sorted(image_id for image_id in table.base.image_ids if image_id not in parts)
    if absent:
        raise DataError(f"{len(absent)} calibration images have no part, for instance {absent[0]!r}; give one for each")
    usable = table.asked & table.base.defect & table.taught
    keep = np.zeros(len(table), dtype=np.bool_)
    known: set[tuple[str, str]] = set()
    for i, (category, image_id) in enumerate(zip(table.category_names, table.base.image_ids, strict=True)):
        part = (category, parts[image_id])
        if usable[i] and part not in known:
            known.add(part)
            keep[i] = True
    return table.select(keep)


def report_answers(
    policy: AnswerPolicy | None,
    predictions: Sequence[Prediction],
    *,
    vocabulary: AnswerVocabulary,
    image_blind: ImageBlindCheck | None,
    note: str,
    num_bootstrap: int,
    seed: int,
) -> AnswerReport:
    """Returns how far the answers on test rows can be trusted.

    Args:
        policy: from `calibrate_answers`; None if there was nothing to calibrate on.
        predictions: test rows.
        vocabulary: what can be true and how it is worded.
        image_blind: from `metrics.collapse.image_blind_check`; None without such a row.
        note: why there is no policy; "" if there is one.
        num_bootstrap: resamples for each interval.
        seed: root seed.

    Raises:
        DataError: if the rows do not fit the label lists, or a policy and a reason for none are given together.
    """
    if (policy is None) != bool(note):
        raise DataError(f"answers are either calibrated or the note says why not; got {note!r} and {policy}")
    table = make_answer_table(predictions, vocabulary=vocabulary)
    weights = stratified_weights(table.base.strata, num_bootstrap=num_bootstrap, seed=seed)
    before = confidence_scores(table, weights)
    if policy is None:
        return AnswerReport(
            note=note,
            scope="",
            policy=None,
            before=before,
            after=None,
            sets=None,
            sorting=None,
            costs=None,
            image_blind=image_blind,
        )
    temperature = policy.temperature.value
    point = policy.operating_point
    return AnswerReport(
        note="",
        scope=SCOPE,
        policy=policy,
        before=before,
        after=None if temperature == 1 else confidence_scores(table, weights, temperature=temperature),
        sets=None if policy.sets is None else set_scores(table, policy.sets, weights),
        sorting=sort_scores(table, policy.sorting, categories=frozenset(policy.categories)),
        costs=None if point is None else cost_scores(table, point, weights, temperature=temperature),
        image_blind=image_blind,
    )
