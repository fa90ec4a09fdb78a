"""Temperature scaling recovers a known temperature and never changes an answer."""

import math

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.core.progress import SilentProgress
from velm_train.evaluation.runner import run_evaluation
from velm_train.evaluation.temperature import apply_temperature, fit_temperature


def test_two_options_have_a_closed_form():
    # Always 2 nats ahead and right in 3 of 4: sigmoid(2 / T) = 3/4, so T = 2 / log(3).
    rows = [{"crack": 0.0, "no defect": -2.0}] * 4
    fitted = fit_temperature(rows, ["crack", "crack", "crack", "no defect"])
    assert fitted.value == pytest.approx(2 / math.log(3), rel=1e-4)
    assert fitted.nll_after == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), rel=1e-6)
    assert fitted.nll_before > fitted.nll_after
    assert fitted.num_rows == 4


def test_answers_that_say_nothing_become_as_even_as_can_be():
    fitted = fit_temperature([{"crack": 0.0, "hole": -9.0}] * 4, ["crack", "hole", "crack", "hole"])
    assert fitted.value == pytest.approx(50.0)
    assert fitted.note == "the model's confidence says nothing about being right"


def test_a_known_temperature_is_recovered():
    rng = np.random.default_rng(0)
    rows, gold = [], []
    for _ in range(3000):
        logits = rng.normal(size=4)
        shares = np.exp(logits) / np.exp(logits).sum()
        gold.append("abcd"[rng.choice(4, p=shares)])
        rows.append(dict(zip("abcd", (3.0 * logits).tolist(), strict=True)))
    assert fit_temperature(rows, gold).value == pytest.approx(3.0, rel=0.1)


def test_applied_rows_sum_to_one_and_keep_their_answer(image, counting_model, scorer_of):
    images = [image("t/0"), image("t/1", flagged=False)]
    rows = run_evaluation(
        images,
        scorer=scorer_of(counting_model),
        hashes={},
        on_rows=lambda _: None,
        done=set(),
        progress=SilentProgress(),
    )
    fitted = fit_temperature([{"a": 0.0, "b": -2.0}] * 4, ["a", "a", "a", "b"])
    stopped, named = apply_temperature(rows, fitted)
    assert stopped == rows[0]
    shares = {answer: math.exp(value) for answer, value in named.option_log_likelihoods.items()}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares, key=shares.get) == "fine crack"
    assert named.pred_defect_type == rows[1].pred_defect_type


def test_rows_without_their_right_answer_are_refused():
    with pytest.raises(DataError, match="'hole' is not among"):
        fit_temperature([{"crack": 0.0}], ["hole"])
    with pytest.raises(DataError, match="0 rows"):
        fit_temperature([], [])
