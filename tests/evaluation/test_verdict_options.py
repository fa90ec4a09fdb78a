"""Probabilities, sets and abstention against values computed by hand."""

import dataclasses
import math

import pytest

from velm_train.core.answer_scores import SetGroup, SetPolicy
from velm_train.evaluation.verdicts import abstention_of, options_of, summarise


def sets(*, threshold: float) -> SetPolicy:
    group = SetGroup(categories=("cable",), threshold=threshold, num_rows=9)
    return SetPolicy(method="lac", coverage=0.9, groups=(group,), pooled_threshold=threshold, note="")


def test_probabilities_are_shares_of_the_likelihoods_likeliest_first(wires, nats) -> None:
    options = options_of(nats, category="cable", taxonomy=wires, answers=None)
    assert [(option.answer, option.defect_type) for option in options] == [
        ("no defect", "good"),
        ("bent wire", "bent_wire"),
        ("cut", "cut"),
        ("none of these", None),
    ]
    assert [option.probability for option in options] == pytest.approx([0.5, 0.3, 0.1, 0.1])
    assert [option.log_likelihood for option in options] == pytest.approx([math.log(5), math.log(3), 0.0, 0.0])


def test_temperature_changes_how_sure_an_answer_is_and_not_which(wires, nats, answer_policy) -> None:
    options = options_of(nats, category="cable", taxonomy=wires, answers=answer_policy(temperature=0.5))
    assert [option.probability for option in options] == pytest.approx([25 / 36, 9 / 36, 1 / 36, 1 / 36])
    assert options[0].answer == "no defect"
    assert options[0].log_likelihood == pytest.approx(math.log(5))


def test_set_holds_what_is_likely_enough_by_the_uncalibrated_shares_and_the_likeliest_always(
    wires, nats, answer_policy
) -> None:
    for share, inside in ((0.1, [True] * 4), (0.2, [True, True, False, False]), (0.9, [True, False, False, False])):
        answers = answer_policy(temperature=7.0, sets=sets(threshold=-math.log(share) + 1e-9))
        options = options_of(nats, category="cable", taxonomy=wires, answers=answers)
        assert [option.in_set for option in options] == inside
    nothing_promised = dataclasses.replace(sets(threshold=9.0), groups=())
    answers = answer_policy(temperature=1.0, sets=nothing_promised)
    options = options_of(nats, category="cable", taxonomy=wires, answers=answers)
    assert {option.in_set for option in options} == {None}
    assert [option.in_set for option in options_of(nats, category="cable", taxonomy=wires, answers=None)] == [None] * 4


def test_abstention_is_the_operating_point_of_the_calibration(answer_policy, operating_point) -> None:
    assert abstention_of(None) == 0.0
    assert abstention_of(answer_policy(temperature=1.0)) == 0.0
    assert abstention_of(answer_policy(temperature=1.0, point=operating_point(0.8))) == 0.8
    assert (
        abstention_of(answer_policy(temperature=1.0, point=operating_point(None))) == 1.0
    )  # a person looks at every one


def test_very_unlikely_options_have_finite_probabilities(wires) -> None:
    options = options_of({"bent wire": -2000.0, "cut": -2001.0}, category="cable", taxonomy=wires, answers=None)
    assert options[0].probability == pytest.approx(1 / (1 + math.exp(-1)))


def test_summary_says_what_the_probabilities_are(answer_policy) -> None:
    answers = answer_policy(temperature=2.0, sets=sets(threshold=1.0))
    summary = summarise((), gates={}, drift_level=0.01, measured=(), answers=answers, abstain_below=0.25)
    assert (summary.temperature, summary.set_coverage, summary.abstain_below) == (2.0, 0.9, 0.25)
    assert (summary.num_pictures, summary.expected_time, summary.drift) == (0, None, ())
