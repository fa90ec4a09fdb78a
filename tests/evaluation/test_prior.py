"""What a blank picture says is taken off what a picture says, category by category."""

import math
from dataclasses import replace

import pytest

from velm_train.core.errors import DataError
from velm_train.core.progress import SilentProgress
from velm_train.evaluation.prior import blank_priors, prior_corrected
from velm_train.evaluation.runner import run_evaluation

TYPES = {"tile": {"fine crack": "crack", "hole": "hole", "no defect": "good", "none of these": None}}


@pytest.fixture
def row(image, counting_model, scorer_of):
    def make(image_id, likelihoods, *, flagged=True):
        (made,) = run_evaluation(
            [image(image_id, flagged=flagged)],
            scorer=scorer_of(counting_model),
            hashes={},
            on_rows=lambda _: None,
            done=frozenset(),
            progress=SilentProgress(),
        )
        answers = [*TYPES["tile"]]
        return replace(made, option_log_likelihoods=dict(zip(answers, likelihoods, strict=True)) if flagged else {})

    return make


def test_prior_is_normalised_over_the_options(row):
    blank = [row("t/0", [-1.0, -2.0, -3.0, -4.0]), row("t/1", [], flagged=False)]
    prior = blank_priors(blank)["tile"]
    assert sum(map(math.exp, prior.values())) == pytest.approx(1.0)
    assert prior["fine crack"] - prior["hole"] == pytest.approx(1.0)


def test_favourite_word_of_the_model_no_longer_wins_by_itself(row):
    priors = blank_priors([row("t/9", [-0.1, -4.0, -4.0, -4.0])])
    own = [row("t/0", [-0.5, -1.0, -6.0, -6.0]), row("t/1", [0.0, -8.0, -8.0, -8.0]), row("t/2", [], flagged=False)]
    crack_or_hole, sure_crack, stopped = prior_corrected(own, priors, types=TYPES)
    assert crack_or_hole.pred_defect_type == "hole"  # -1 + 4 > -0.5 + 0.1
    assert sure_crack.pred_defect_type == "crack"  # 0 + 0.1 > -8 + 4
    assert stopped == own[2]
    gain = crack_or_hole.option_log_likelihoods["hole"] - crack_or_hole.option_log_likelihoods["fine crack"]
    assert gain == pytest.approx((-1.0 + 0.5) - (-4.0 + 0.1))


def test_flat_prior_changes_no_answer(row):
    priors = blank_priors([row("t/9", [-2.0, -2.0, -2.0, -2.0])])
    own = row("t/0", [-3.0, -1.0, -2.0, -9.0])
    assert prior_corrected([own], priors, types=TYPES)[0].pred_defect_type == "hole"
    own = row("t/0", [-3.0, -2.0, -2.5, -1.0])
    assert prior_corrected([own], priors, types=TYPES)[0].pred_defect_type is None


def test_rows_that_cannot_be_compared_are_refused(row):
    one, other = row("t/0", [-1.0, -2.0, -3.0, -4.0]), row("t/1", [-1.0, -2.0, -3.0, -5.0])
    with pytest.raises(DataError, match="t/1: the blank picture gives other likelihoods"):
        blank_priors([one, other])
    with pytest.raises(DataError, match="no blank picture was asked about in 'tile'"):
        prior_corrected([one], {}, types=TYPES)
    fewer = {"tile": {"hole": 0.0}}
    with pytest.raises(DataError, match=r"options differ .*\['fine crack', 'no defect', 'none of these'\]"):
        prior_corrected([one], fewer, types=TYPES)
