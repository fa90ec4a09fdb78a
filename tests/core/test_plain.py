"""Records survive the way through plain values; what does not fit is named with its place."""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Literal

import pytest

from velm_train.core.errors import DataError
from velm_train.core.plain import read_record
from velm_train.core.scores import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    size_hw: tuple[int, int]
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    name: str
    mode: Literal["on", "off"]
    sure: bool
    inner: Inner | None
    all_inner: tuple[Inner, ...]
    counts: dict[str, int]


RECORD = Outer(
    name="a",
    mode="on",
    sure=True,
    inner=None,
    all_inner=(Inner(size_hw=(3, 4), share=0.5), Inner(size_hw=(5, 6), share=1.0)),
    counts={"x": 2},
)


def test_record_survives_the_way_through_plain_values():
    assert read_record(Outer, dataclasses.asdict(RECORD)) == RECORD
    score = Score(value=1.0, low=0.5, high=1.0, n=4, k=4, interval="clopper-pearson", note="")
    assert read_record(Score, dataclasses.asdict(score)) == score


def test_whole_number_becomes_the_float_that_was_written():
    read = read_record(Inner, {"size_hw": [3, 4], "share": 1})
    assert (read, type(read.share)) == (Inner(size_hw=(3, 4), share=1.0), float)


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        (("name",), 3, "Outer.name is 3; text is needed"),
        (("name",), None, "Outer.name is nothing; text is needed"),
        (("mode",), "of", "Outer.mode is 'of'; one of on, off is needed"),
        (("mode",), ["on"], r"Outer.mode is ['on']; one of on, off is needed"),
        (("sure",), 1, "Outer.sure is 1; true or false is needed"),
        (("inner",), [1], "Outer.inner is [1]; an object with size_hw, share is needed"),
        (("all_inner",), {"a": 1}, "Outer.all_inner is {'a': 1}; a list is needed"),
        (("all_inner", 1, "share"), "0.5", "Outer.all_inner[1].share is '0.5'; a number is needed"),
        (("all_inner", 1, "share"), True, "Outer.all_inner[1].share is True; a number is needed"),
        (("all_inner", 0, "size_hw"), [3], "Outer.all_inner[0].size_hw is [3]; a list of 2 is needed"),
        (("all_inner", 0, "size_hw"), [3, 4.5], "Outer.all_inner[0].size_hw[1] is 4.5; a whole number is needed"),
        (("all_inner", 0), {"size_hw": [3, 4]}, "Outer.all_inner[0]: missing fields ['share'], unknown fields []"),
        (("counts",), [2], "Outer.counts is [2]; an object is needed"),
        (("counts", "x"), "2", "Outer.counts.x is '2'; a whole number is needed"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(place, value, problem):
    plain = copy.deepcopy(dataclasses.asdict(RECORD))
    plain["all_inner"] = list(plain["all_inner"])
    target = plain
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    with pytest.raises(DataError) as caught:
        read_record(Outer, plain)
    assert str(caught.value) == problem


def test_value_that_is_no_object_is_refused():
    with pytest.raises(DataError, match=r"^Score is \[1, 2\]; an object with value, low, high, n, k, interval, note"):
        read_record(Score, [1, 2])
