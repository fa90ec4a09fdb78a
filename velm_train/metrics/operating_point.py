"""Calibration rows and what outcomes cost go in; the confidence from which on an answer beats a person comes out.

    expected cost = defect_share * mean over defective parts + (1 - defect_share) * mean over good parts

The gate's alpha stays as it is: a defect that it misses costs the same at every threshold. A person who looks is taken
to decide rightly. Reject option with costs: Chow, IEEE Trans. Information Theory 16 (1970).
"""

import numpy as np
from jaxtyping import Bool, Float

from velm_train.core.answer_scores import CostMatrix, CostScores, OperatingPoint
from velm_train.core.scores import Score
from velm_train.metrics.answer_table import AnswerTable
from velm_train.metrics.intervals import Values, Weights, bootstrap_score, proportion, weighted_mean
from velm_train.metrics.table import NORMAL_INDEX


def part_costs(table: AnswerTable, acted_on: Bool[np.ndarray, " n"], *, costs: CostMatrix) -> Float[np.ndarray, " n"]:
    """Returns what each image costs.

    Args:
        table: the images.
        acted_on: where the answer is acted on; a person looks at all other flagged images.
        costs: of each outcome.
    """
    base = table.base
    says_good = base.pred_type == NORMAL_INDEX
    defect = np.where(base.correct, 0.0, np.where(says_good, costs.missed_defect, costs.wrong_type))
    answered = np.where(base.defect, defect, np.where(says_good, 0.0, costs.false_alarm))
    stopped = np.where(base.defect, costs.missed_defect, 0.0)
    flagged = np.where(acted_on, answered, costs.human_look)
    return np.asarray(np.where(base.flagged, flagged, stopped))


def choose_operating_point(
    table: AnswerTable, *, costs: CostMatrix, defect_share: float, temperature: float, normal_flag_rate: float
) -> OperatingPoint | None:
    """Returns the confidence with the lowest expected cost on the calibration rows; None without defective ones.

    Of equal costs the one that asks fewest people is taken. Flagged good images stand for the good parts that the gate
    flags; without any, only defective parts decide.

    Args:
        table: calibration rows.
        costs: of each outcome.
        defect_share: share of defective parts on the line, above 0, below 1.
        temperature: of the confidences.
        normal_flag_rate: share of good parts that the gate flags, 0..1.
    """
    defect, alarm = table.base.defect, table.asked & ~table.base.defect
    if not defect.any():
        return None
    confidence = np.where(table.named, table.confidence(temperature=temperature), -1.0)
    candidates = [0.0, *np.unique(confidence[table.named]).tolist(), None]
    best: tuple[float, float | None] | None = None
    for threshold in candidates:
        cost = part_costs(table, _sure(table, confidence, threshold), costs=costs)
        expected = defect_share * float(cost[defect].mean())
        if alarm.any():
            expected += (1 - defect_share) * normal_flag_rate * float(cost[alarm].mean())
        if best is None or expected < best[0] - 1e-12:
            best = (expected, threshold)
    assert best is not None
    note = (
        ""
        if alarm.any()
        else (
            "no good image is among the calibration rows, so false alarms had no part in the choice; "
            "protocol.calibration_fraction above 0 gives some"
        )
    )
    return OperatingPoint(
        costs=costs,
        defect_share=defect_share,
        min_confidence=best[1],
        expected_cost=best[0],
        num_defects=int(defect.sum()),
        num_false_alarms=int(alarm.sum()),
        note=note,
    )


def _sure(table: AnswerTable, confidence: Float[np.ndarray, " n"], threshold: float | None) -> Bool[np.ndarray, " n"]:
    if threshold is None:
        return np.zeros(len(table), dtype=np.bool_)
    return np.asarray(table.named & (confidence >= threshold))


def cost_scores(table: AnswerTable, point: OperatingPoint, weights: Weights, *, temperature: float) -> CostScores:
    """Returns expected costs a part on test rows, at the operating point, without a person, and with one for each.

    Args:
        table: test rows.
        point: from calibration rows.
        weights: bootstrap resamples of the test rows.
        temperature: of the confidences, as when the point was chosen.
    """
    confidence = table.confidence(temperature=temperature)
    chosen = _sure(table, confidence, point.min_confidence)

    def expected(acted_on: Bool[np.ndarray, " n"]) -> Score:
        cost = part_costs(table, acted_on, costs=point.costs)
        return bootstrap_score(
            lambda w: expected_cost_values(table, cost, w, defect_share=point.defect_share), weights, n=len(table)
        )

    return CostScores(
        at_point=expected(chosen),
        always_answer=expected(table.named),
        always_look=expected(np.zeros(len(table), dtype=np.bool_)),
        human_looks=proportion(~chosen[table.base.flagged], if_empty="no image was flagged"),
    )


def expected_cost_values(
    table: AnswerTable, cost: Float[np.ndarray, " n"], weights: Weights, *, defect_share: float
) -> Values:
    """Returns the cost a part with defective and good parts in the line's shares; NaN without one of them."""
    defect = table.base.defect
    of_defects, of_good = weighted_mean(cost, weights * defect), weighted_mean(cost, weights * ~defect)
    return defect_share * of_defects + (1 - defect_share) * of_good
