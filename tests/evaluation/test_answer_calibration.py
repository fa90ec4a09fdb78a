"""Everything about answers is decided on calibration rows: test rows change figures and nothing else."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from velm_train.core.answer_scores import AnswerPolicy, CostMatrix
from velm_train.core.errors import DataError
from velm_train.core.plain import read_record
from velm_train.core.records import Prediction
from velm_train.evaluation.answer_calibration import AnswerSettings, calibrate_answers, report_answers
from velm_train.metrics.answer_table import AnswerVocabulary

TYPES = ("bent", "cut", "rust")
VOCABULARY = AnswerVocabulary(
    label_sets={"nut": TYPES, "tile": TYPES},
    answers={name: {kind: f"a {kind}" for kind in TYPES} for name in ("nut", "tile")},
    unknown_types={},
)
SETTINGS = AnswerSettings(
    set_method="lac",
    set_coverage=0.8,
    max_error=0.3,
    sorting_confidence=0.8,
    costs=CostMatrix(missed_defect=10.0, false_alarm=2.0, wrong_type=1.0, human_look=0.3),
    defect_share=0.2,
)
OVERCONFIDENCE = 3.0


def prediction(name, gt, *, category="nut", options=None):
    best = None if options is None else max(options, key=options.get)
    named = {f"a {kind}": kind for kind in TYPES} | {"no defect": "good", "none of these": None}
    return Prediction(
        image_id=name,
        category=category,
        group="seen",
        gt_defect_type=gt,
        anomaly_score=0.5,
        p_value=0.5,
        pred_label=options is not None,
        gate_policy="detector",
        option_log_likelihoods=options or {},
        pred_defect_type="good" if best is None else named[best],
        response="",
        region_boxes_xyxy=(),
        seconds={},
        hashes={},
    )


def over_confident(num, *, seed, prefix="", sharpness=2.0):
    """Rows of a model that states three times the true logits, with false alarms and gate misses among them."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        options = (*(f"a {kind}" for kind in TYPES), "no defect", "none of these")
        logits = rng.normal(size=5) * sharpness - np.array([0, 0, 0, 1.0, 100.0])
        shares = np.exp(logits - logits.max())
        drawn = options[rng.choice(5, p=shares / shares.sum())]
        gt = "good" if drawn == "no defect" else drawn.removeprefix("a ")
        stated = dict(zip(options, (OVERCONFIDENCE * logits).tolist(), strict=True))
        flagged = rng.random() < 0.9 or gt == "good"
        rows.append(
            prediction(f"{prefix}{i:04d}", gt, category=("nut", "tile")[i % 2], options=stated if flagged else None)
        )
    return rows


def calibrate(rows, *, parts=None, settings=SETTINGS):
    return calibrate_answers(
        rows,
        settings=settings,
        vocabulary=VOCABULARY,
        parts=parts or {row.image_id: row.image_id for row in rows},
        normal_flag_rate=0.1,
    )


def report(policy, rows, *, note=""):
    return report_answers(policy, rows, vocabulary=VOCABULARY, image_blind=None, note=note, num_bootstrap=100, seed=0)


@pytest.fixture(scope="module")
def policy():
    return calibrate(over_confident(500, seed=1))


@pytest.fixture(scope="module")
def tested():
    return over_confident(400, seed=2, prefix="t")


def test_temperature_of_an_over_confident_model_is_recovered(policy):
    assert policy.temperature.value == pytest.approx(OVERCONFIDENCE, rel=0.15)
    assert policy.temperature.note == ""


def test_calibration_lowers_error_and_likelihood_loss_and_leaves_the_answers(policy, tested):
    result = report(policy, tested)
    assert result.after.expected_calibration_error.value < 0.5 * result.before.expected_calibration_error.value
    assert result.after.nll.value < result.before.nll.value
    assert result.after.brier.value < result.before.brier.value
    hits = [sum(one.accuracy.k for one in scores.reliability) for scores in (result.before, result.after)]
    assert hits[0] == hits[1]


def test_what_is_decided_is_the_same_whatever_the_test_says(policy, tested):
    """Other labels in the test change its figures; temperature, sets, threshold and operating point stay."""
    rng = np.random.default_rng(0)
    truths = [row.gt_defect_type for row in tested]
    shuffled = [
        replace(row, gt_defect_type=truths[i]) for row, i in zip(tested, rng.permutation(len(tested)), strict=True)
    ]
    as_it_is, otherwise = report(policy, tested), report(policy, shuffled)
    assert as_it_is.policy == otherwise.policy == calibrate(over_confident(500, seed=1))
    assert as_it_is.sets.coverage != otherwise.sets.coverage
    assert as_it_is.sorting.error != otherwise.sorting.error
    assert as_it_is.costs.at_point != otherwise.costs.at_point


def test_promises_are_kept_on_the_test(policy, tested):
    result = report(policy, tested)
    assert result.sets.coverage.high >= SETTINGS.set_coverage
    assert policy.sorting.certified
    assert result.sorting.error.low <= SETTINGS.max_error
    assert 1 <= result.sets.mean_size.value <= 4
    assert result.costs.at_point.value <= result.costs.always_answer.value + 0.1


def test_images_of_one_part_count_once_in_promises():
    rows = over_confident(200, seed=3)
    alone = calibrate(rows)
    paired = calibrate(rows, parts={row.image_id: str(i // 4) for i, row in enumerate(rows)})
    assert paired.num_rows == alone.num_rows
    assert paired.num_parts <= 100 < alone.num_parts  # 50 parts of each category
    assert paired.sorting.num_answers <= paired.num_parts
    assert paired.temperature == alone.temperature


def test_false_alarms_have_no_part_in_promises():
    rows = over_confident(200, seed=4)
    without = [row for row in rows if row.gt_defect_type != "good"]
    first, second = calibrate(rows), calibrate(without)
    assert (first.sets, first.sorting) == (second.sets, second.sorting)
    assert first.operating_point.num_false_alarms > 0 == second.operating_point.num_false_alarms


def test_few_rows_leave_everything_open_and_say_what_is_missing():
    policy = calibrate(over_confident(3, seed=5))
    assert (policy.temperature.value, policy.sets) == (1.0, None)
    assert "needs 20 answers, has 2" in policy.temperature.note
    assert policy.sets_note.startswith("needs 4 flagged defective calibration parts, has")
    assert not policy.sorting.certified
    assert "even if all are right" in policy.sorting.note


def test_answers_that_are_all_right_fix_no_temperature():
    options = {"a cut": 0.0, "a bent": -3.0, "no defect": -4.0}
    policy = calibrate([prediction(f"{i}", "cut", options=options) for i in range(30)])
    assert policy.temperature.value == 1.0
    assert policy.temperature.note == "30 rows, all right, fix no temperature"
    assert policy.temperature.nll_after == policy.temperature.nll_before


def test_confidence_that_no_temperature_changes_is_given_once(tested):
    result = report(calibrate(over_confident(3, seed=5)), tested)
    assert result.policy.temperature.value == 1
    assert result.after is None
    assert report(calibrate(over_confident(500, seed=1)), tested).after is not None


def test_nothing_to_calibrate_on_still_gives_the_figures_of_the_model_itself(tested):
    result = report(None, tested, note="nothing was set aside")
    assert result.before.expected_calibration_error.value > 0.1
    assert (result.after, result.sets, result.sorting, result.costs) == (None, None, None, None)
    assert result.note == "nothing was set aside"
    with pytest.raises(DataError, match="either calibrated or the note says why not"):
        report(None, tested)


def test_unknown_part_is_refused_by_name():
    rows = over_confident(30, seed=6)
    with pytest.raises(DataError, match="30 calibration images have no part, for instance '0000'"):
        calibrate(rows, parts={"x": "y"})


def test_policy_and_report_survive_the_way_through_a_file(policy, tested):
    body = json.loads(json.dumps(policy.to_json(), allow_nan=False))
    assert AnswerPolicy.from_json(body) == policy
    with pytest.raises(DataError, match="schema version 0, expected 1"):
        AnswerPolicy.from_json(body | {"schema_version": 0})
    result = report(policy, tested)
    assert read_record(type(result), json.loads(json.dumps(asdict(result), allow_nan=False))) == result
    assert math.isfinite(policy.sets.pooled_threshold)
