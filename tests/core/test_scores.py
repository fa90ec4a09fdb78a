"""Scores refuse what a reader could mistake for a figure."""

import dataclasses

import pytest

from velm_train.core.errors import DataError
from velm_train.core.plain import read_record
from velm_train.core.scores import Score


def test_nan_is_refused():
    with pytest.raises(DataError, match="not finite"):
        Score(value=float("nan"), low=None, high=None, n=1, k=None, interval="none", note="")


def test_missing_value_needs_a_reason():
    with pytest.raises(DataError, match="note"):
        Score.undefined("")


def test_record_survives_the_way_through_plain_values():
    score = Score(value=1.0, low=0.5, high=1.0, n=4, k=4, interval="clopper-pearson", note="")
    assert read_record(Score, dataclasses.asdict(score)) == score


def test_whole_number_becomes_the_float_that_was_written():
    plain = {"value": 1, "low": None, "high": None, "n": 4, "k": None, "interval": "none", "note": ""}
    assert read_record(Score, plain).n == 4


def test_value_that_is_no_object_is_refused_by_the_type_it_should_be():
    with pytest.raises(DataError, match="Score: missing fields"):
        read_record(Score, [1, 2])
