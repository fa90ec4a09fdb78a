"""What outcomes cost, by hand; the chosen point is the cheapest, and its test cost keeps to its interval."""

import math

import numpy as np
import pytest

from velm_train.core.answer_scores import CostMatrix
from velm_train.metrics.answer_table import AnswerVocabulary, make_answer_table
from velm_train.metrics.intervals import stratified_weights
from velm_train.metrics.operating_point import choose_operating_point, cost_scores, expected_cost_values, part_costs

VOCABULARY = AnswerVocabulary(
    label_sets={"nut": ("bent", "cut")}, answers={"nut": {"bent": "bent", "cut": "cut"}}, unknown_types={}
)
COSTS = CostMatrix(missed_defect=10.0, false_alarm=2.0, wrong_type=3.0, human_look=0.5)


def answered(row, name, gt, pred, confidence=0.9):
    likelihoods = {"a": math.log(confidence), "b": math.log(1 - confidence)}
    return row(name, gt, pred, options=likelihoods, flagged=True)


def table_of(rows):
    return make_answer_table(rows, vocabulary=VOCABULARY)


def choose(table, **changes):
    settings = {"costs": COSTS, "defect_share": 0.5, "temperature": 1.0, "normal_flag_rate": 0.1} | changes
    return choose_operating_point(table, **settings)


def test_every_outcome_has_its_cost(row):
    table = table_of(
        [
            answered(row, "a", "cut", "cut"),
            answered(row, "b", "cut", "bent"),
            answered(row, "c", "cut", "good"),
            row("d", "cut", "good", flagged=False),
            answered(row, "e", "good", "cut"),
            answered(row, "f", "good", "good"),
            row("g", "good", "good", flagged=False),
        ]
    )
    everything, nothing = np.ones(7, dtype=np.bool_), np.zeros(7, dtype=np.bool_)
    assert part_costs(table, everything, costs=COSTS).tolist() == [0.0, 3.0, 10.0, 10.0, 2.0, 0.0, 0.0]
    assert part_costs(table, nothing, costs=COSTS).tolist() == [0.5, 0.5, 0.5, 10.0, 0.5, 0.5, 0.0]


def test_cheapest_confidence_is_chosen(row):
    rows = [answered(row, f"r{i}", "cut", "cut", 0.9) for i in range(3)]
    rows += [answered(row, f"w{i}", "cut", "bent", 0.6) for i in range(3)]
    point = choose(table_of(rows))
    assert point.min_confidence == pytest.approx(0.9)
    assert point.expected_cost == pytest.approx(0.5 * 3 * 0.5 / 6)
    assert "no good image" in point.note


def test_person_looks_at_everything_if_answers_are_worthless_and_at_nothing_if_looks_are_dear(row):
    wrong = table_of([answered(row, f"{i}", "cut", "bent", 0.9) for i in range(4)])
    assert choose(wrong).min_confidence is None
    dear = CostMatrix(missed_defect=10.0, false_alarm=2.0, wrong_type=3.0, human_look=4.0)
    assert choose(wrong, costs=dear).min_confidence == 0.0


def test_false_alarms_weigh_by_how_many_good_parts_the_gate_flags(row):
    rows = [answered(row, f"d{i}", "cut", "cut", 0.7) for i in range(4)]
    rows += [answered(row, f"n{i}", "good", "cut", 0.8) for i in range(4)]
    table = table_of(rows)
    # acting on all costs (1 - share) * rate * 2, acting on none share * 0.5 + (1 - share) * rate * 0.5
    rare = choose(table, normal_flag_rate=0.01)
    assert (rare.min_confidence, rare.expected_cost) == (0.0, pytest.approx(0.5 * 0.01 * 2))
    common = choose(table, normal_flag_rate=1.0)
    assert (common.min_confidence, common.expected_cost) == (None, pytest.approx(0.5))
    assert (common.num_defects, common.num_false_alarms, common.note) == (4, 4, "")


def test_chosen_point_is_no_dearer_than_any_other_threshold(row):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        confidence = float(rng.uniform(0.5, 0.99))
        right = rng.random() < confidence
        rows.append(answered(row, f"{i:02d}", "cut", "cut" if right else "bent", confidence))
    table = table_of(rows)
    point = choose(table)
    confidences = table.confidence()
    for threshold in np.linspace(0, 1.01, 50):
        cost = 0.5 * part_costs(table, confidences >= threshold, costs=COSTS).mean()
        assert point.expected_cost <= cost + 1e-12


def test_without_a_defect_there_is_no_point(row):
    assert choose(table_of([answered(row, "a", "good", "cut")])) is None


def test_expected_cost_weighs_both_kinds_of_parts_by_the_share_on_the_line(row):
    table = table_of([answered(row, "a", "cut", "bent"), answered(row, "b", "good", "cut"), row("c", "good", "good")])
    cost = np.array([3.0, 2.0, 0.0])
    assert expected_cost_values(table, cost, np.ones((1, 3)), defect_share=0.1)[0] == pytest.approx(0.1 * 3 + 0.9 * 1)
    assert np.isnan(expected_cost_values(table, cost, np.array([[1.0, 0.0, 0.0]]), defect_share=0.1)[0])


def test_cost_interval_covers_at_its_nominal_rate(row):
    """The test's interval, over fresh tests, holds the true expected cost."""
    rng = np.random.default_rng(5)
    point = choose(table_of([answered(row, f"{i}", "cut", "cut", 0.9) for i in range(5)]))
    num, covered = 60, 0
    names = [f"{i:03d}" for i in range(2 * num)]
    for _ in range(40):
        rows = [answered(row, name, "cut", "cut" if rng.random() < 0.7 else "bent", 0.95) for name in names[:num]] + [
            answered(row, name, "good", "cut" if rng.random() < 0.4 else "good", 0.95) for name in names[num:]
        ]
        table = table_of(rows)
        weights = stratified_weights(table.base.strata, num_bootstrap=200, seed=0)
        score = cost_scores(table, point, weights, temperature=1.0).at_point
        covered += score.low <= 0.5 * 0.3 * 3 + 0.5 * 0.4 * 2 <= score.high
    assert covered >= 34  # 38 expected; 34 or more has probability 0.99
