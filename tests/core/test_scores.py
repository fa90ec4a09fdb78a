"""Scores refuse what a reader could mistake for a figure."""

import pytest

from velm_train.core.errors import DataError
from velm_train.core.scores import Score


def test_nan_is_refused():
    with pytest.raises(DataError, match="not finite"):
        Score(value=float("nan"), low=None, high=None, n=1, k=None, interval="none", note="")


def test_missing_value_needs_a_reason():
    with pytest.raises(DataError, match="note"):
        Score.undefined("")
