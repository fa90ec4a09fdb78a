"""Brier score and log-likelihood against scikit-learn and by hand, before and after a temperature."""

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from velm_train.metrics.answer_table import AnswerVocabulary, make_answer_table
from velm_train.metrics.intervals import stratified_weights
from velm_train.metrics.proper_scores import brier_values, confidence_scores, nll_values

TYPES = ("bent", "cut", "rust")
VOCABULARY = AnswerVocabulary(
    label_sets={"nut": TYPES}, answers={"nut": {kind: kind for kind in TYPES[:2]}}, unknown_types={"nut": ["rust"]}
)
OPTIONS = ("bent", "cut", "none of these")


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(60, 3)) * 2


@pytest.fixture
def table(row, logits):
    rows = []
    for i, values in enumerate(logits):
        best = int(values.argmax())
        pred = None if best == 2 else OPTIONS[best]
        options = dict(zip(OPTIONS, values.tolist(), strict=True))
        rows.append(row(f"{i:03d}", TYPES[i % 3], pred, options=options, flagged=True))
    return make_answer_table(rows, vocabulary=VOCABULARY)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_both_agree_with_scikit_learn(table, logits, temperature):
    shares = np.exp(logits / temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    truth = np.arange(60) % 3  # the unknown type's right option is the third, "none of these"
    ones = np.ones((1, 60))
    expected = log_loss(truth, shares)
    assert nll_values(table, ones, temperature=temperature)[0] == pytest.approx(expected)
    expected = brier_score_loss(truth, shares, labels=[0, 1, 2], scale_by_half=False)
    assert brier_values(table, ones, temperature=temperature)[0] == pytest.approx(expected)


def test_right_option_that_was_not_offered_counts_in_brier_and_is_left_out_of_the_likelihood(row):
    rows = [
        row("a", "cut", "bent", options={"bent": 0.0, "no defect": 0.0}),
        row("b", "bent", "bent", options={"bent": 0.0, "no defect": 0.0}),
    ]
    table = make_answer_table(rows, vocabulary=VOCABULARY)
    ones = np.ones((1, 2))
    assert brier_values(table, ones)[0] == pytest.approx(((0.5**2 + 0.5**2 + 1) + (0.5**2 + 0.5**2)) / 2)
    assert nll_values(table, ones)[0] == pytest.approx(math.log(2))
    scores = confidence_scores(table, stratified_weights(table.base.strata, num_bootstrap=10, seed=0))
    assert (scores.nll.n, scores.brier.n) == (1, 2)
    assert "without 1 images" in scores.nll.note


def test_images_that_were_not_asked_about_count_in_neither(row, table):
    weights = np.ones((1, 2))
    rows = [row("a", "cut", "good", flagged=False), row("b", "cut", "cut", options={"bent": 0.0, "cut": 0.0})]
    mixed = make_answer_table(rows, vocabulary=VOCABULARY)
    assert nll_values(mixed, weights)[0] == pytest.approx(math.log(2))
    silent = make_answer_table(rows[:1], vocabulary=VOCABULARY)
    scores = confidence_scores(silent, stratified_weights(silent.base.strata, num_bootstrap=10, seed=0))
    assert scores.brier.value is None
    assert scores.reliability == ()


def test_temperature_changes_confidence_and_no_answer(table):
    cool, warm = table.confidence(temperature=1.0), table.confidence(temperature=4.0)
    assert (warm < cool).all()
    assert (table.log_probabilities().argmax(axis=1) == table.log_probabilities(temperature=4.0).argmax(axis=1)).all()


def test_log_odds_tell_apart_what_rounds_to_one(row):
    rows = [
        row("a", "cut", "cut", options={"cut": 0.0, "bent": -60.0}),
        row("b", "cut", "cut", options={"cut": 0.0, "bent": -90.0, "none of these": -95.0}),
        row("c", "cut", "cut", options={"cut": 0.0}),
        row("d", "cut", "good", flagged=False),
    ]
    table = make_answer_table(rows, vocabulary=VOCABULARY)
    assert table.confidence()[:3].tolist() == [1.0, 1.0, 1.0]
    odds = table.log_odds()
    assert odds[:2] == pytest.approx([60.0, 90.0 - math.log1p(math.exp(-5.0))])
    assert math.isfinite(odds[2])
    assert odds[2] > odds[1]
    assert odds[3] == -math.inf
