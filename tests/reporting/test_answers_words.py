"""What terminal and page say about answers follows from the figures, with and without calibration."""

from dataclasses import replace

import pytest

from velm_train.core.answer_scores import (
    AnswerPolicy,
    AnswerReport,
    ConfidenceScores,
    CostMatrix,
    CostScores,
    ImageBlindCheck,
    OperatingPoint,
    ReliabilityBin,
    SetGroup,
    SetPolicy,
    SetScores,
    SortPolicy,
    SortScores,
    Temperature,
)
from velm_train.core.scores import Score
from velm_train.reporting.answers_view import AnswersView
from velm_train.reporting.answers_words import answer_lines
from velm_train.reporting.report import render_report


def figure(value):
    return Score(value=value, low=value / 2, high=2 * value, n=40, k=None, interval="bootstrap", note="")


def rate(k, n):
    return Score(value=k / n, low=0.0, high=1.0, n=n, k=k, interval="clopper-pearson", note="")


def confidence(error):
    return ConfidenceScores(
        expected_calibration_error=figure(error),
        aurc=figure(0.1),
        brier=figure(0.3),
        nll=figure(0.7),
        reliability=(ReliabilityBin(mean_confidence=0.8, accuracy=rate(30, 40)),),
    )


@pytest.fixture
def report():
    policy = AnswerPolicy(
        temperature=Temperature(value=2.5, num_rows=50, nll_before=1.0, nll_after=0.5),
        sets=SetPolicy(
            method="lac",
            coverage=0.9,
            groups=(SetGroup(categories=("nut",), threshold=1.5, num_rows=45),),
            pooled_threshold=1.5,
            note="a threshold of its own for each category",
        ),
        sets_note="",
        sorting=SortPolicy(
            max_error=0.1,
            confidence=0.9,
            min_log_odds=2.25,
            all_kept=False,
            num_answers=45,
            num_kept=40,
            num_errors=0,
            note="",
        ),
        operating_point=OperatingPoint(
            costs=CostMatrix(missed_defect=10, false_alarm=1, wrong_type=1, human_look=0.5),
            defect_share=0.1,
            min_confidence=0.6,
            expected_cost=0.2,
            num_defects=50,
            num_false_alarms=4,
            note="",
        ),
        operating_note="",
        categories=("nut",),
        num_rows=50,
        num_parts=45,
    )
    return AnswerReport(
        note="",
        scope="Promises are about <nuts>.",
        policy=policy,
        before=confidence(0.2),
        after=confidence(0.04),
        sets=SetScores(
            coverage=rate(36, 40),
            mean_size=figure(1.7),
            single=rate(20, 40),
            coverage_elsewhere=Score.undefined("none"),
            false_alarms_with_no_defect=rate(1, 4),
        ),
        sorting=SortScores(error=rate(1, 20), kept=rate(20, 40), false_alarms_given_a_type=rate(1, 4)),
        costs=CostScores(
            at_point=figure(0.2), always_answer=figure(0.3), always_look=figure(0.4), human_looks=rate(10, 44)
        ),
        image_blind=ImageBlindCheck(alarm=False, gap=figure(0.3), note=""),
    )


def uncalibrated(report):
    return replace(
        report, note="nothing was set aside", policy=None, after=None, sets=None, sorting=None, costs=None, scope=""
    )


@pytest.mark.parametrize(
    "said",
    [
        "Temperature 2.5 from 50 calibration images; calibration error 20.0 [10.0\N{EN DASH}40.0] % before, 4.0",
        "promise to hold the true type of 90 % of flagged defects",
        "(36 of 40) in the test, 1.7 options on average",
        "at most 10 % errors with confidence 90 %: answers with log-odds above 2.25 are acted on",
        "5.0 % [0.0\N{EN DASH}100.0] (1 of 20) of them wrong",
        "Cheapest on the calibration images: answers of at least 60.0 % are acted on. On the test images a part is",
        "then expected to cost 0.200 [0.100\N{EN DASH}0.400], against 0.300",
    ],
)
def test_lines_say(report, said):
    assert said in " ".join(answer_lines(report))


def test_without_calibration_one_line_says_why(report):
    assert answer_lines(uncalibrated(report)) == ["nothing was set aside."]


def test_what_could_not_be_decided_says_what_is_missing(report):
    policy = replace(
        report.policy,
        temperature=Temperature(value=1.0, num_rows=3, nll_before=None, nll_after=None, note="needs 20 answers, has 3"),
        sets=None,
        sets_note="needs 9 parts, has 3",
        sorting=replace(report.policy.sorting, min_log_odds=None, note="needs 38 answers"),
        operating_point=None,
        operating_note="no defective image",
    )
    lines = answer_lines(replace(report, policy=policy, after=None, sets=None, costs=None))
    assert lines[0] == (
        "Answers keep their confidence: needs 20 answers, has 3; calibration error 20.0 [10.0\N{EN DASH}40.0] %."
    )
    assert lines[1] == "No type sets: needs 9 parts, has 3."
    assert lines[2].endswith("confidence 90 %: needs 38 answers.")
    assert lines[3] == "No operating point: no defective image."


def test_answers_that_do_not_depend_on_the_picture_are_said_first(report):
    blind = replace(report, image_blind=ImageBlindCheck(alarm=True, gap=figure(0.01), note="it costs 1.0 points"))
    first = "The answers are not shown to depend on the picture: it costs 1.0 points."
    assert answer_lines(blind)[0] == first
    assert AnswersView(blind).alarms() == [first]
    assert AnswersView(report).alarms() == []


def test_page_shows_confidence_before_and_after_and_escapes_its_words(report, content):
    page = render_report(replace(content, answers=report))
    assert "Confidence against being right" in page
    assert "Promises are about &lt;nuts&gt;." in page
    assert 'class="series-after"' in page
    assert '<th scope="col">Calibrated</th>' in page
    assert '<th scope="col">Calibrated</th>' not in render_report(replace(content, answers=replace(report, after=None)))
    assert "Temperature 2.5" in page
    plain = render_report(replace(content, answers=uncalibrated(report)))
    assert "nothing was set aside." in plain
    assert 'class="series-after"' not in plain
    assert 'id="answers"' not in render_report(content)


def test_page_reads_the_alarm_first(report, content):
    blind = replace(report, image_blind=ImageBlindCheck(alarm=True, gap=figure(0.01), note="it costs 1.0 points"))
    page = render_report(replace(content, answers=blind))
    assert page.index("it costs 1.0 points") < page.index('id="headline"')
