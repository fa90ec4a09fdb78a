"""Mean and standard deviation over seeds, by hand."""

import math

import pytest

from velm_train.core.comparison import Spread
from velm_train.core.scores import Score
from velm_train.metrics.seeds import spread, spreads


def score(value):
    return Score(
        value=value, low=None, high=None, n=9, k=None, interval="none", note="" if value is not None else "none"
    )


def test_standard_deviation_is_that_of_a_sample() -> None:
    found = spread([0.90, 0.94, 0.95])
    assert found.mean == pytest.approx(0.93)
    assert found.std == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.02**2) / 2))
    assert found.n == 3


def test_one_run_has_no_deviation() -> None:
    assert spread([0.5]) == Spread(mean=0.5, std=None, n=1)


def test_every_figure_counts_the_runs_that_have_it() -> None:
    runs = [{"a": score(0.5), "b": score(None)}, {"a": score(0.7), "b": score(0.2), "c": score(None)}]
    found = spreads(runs)
    assert set(found) == {"a", "b"}
    assert found["a"].mean == pytest.approx(0.6)
    assert found["b"] == Spread(mean=0.2, std=None, n=1)


def test_order_of_runs_does_not_matter() -> None:
    values = [0.1, 0.7, 0.4]
    assert spread(values) == spread(values[::-1])
