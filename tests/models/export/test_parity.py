"""Figures of agreement, worked out by hand, and the refusal of anything that does not agree."""

import math

import pytest

from velm_train.core.errors import ExportError
from velm_train.models.export.parity import Answers, compare_answers, require_agreement

REFERENCE = Answers(
    labels={"a": "hole", "b": None},
    log_likelihoods={"a": {"hole": -1.0, "scratch": -2.0}, "b": {"hole": -3.0, "scratch": -3.5}},
)


def other(*, b_label: str | None = None, b_hole: float = -3.25) -> Answers:
    return Answers(
        labels={"a": "hole", "b": b_label},
        log_likelihoods={"a": {"hole": -1.0, "scratch": -2.125}, "b": {"hole": b_hole, "scratch": -3.5}},
    )


def test_figures_are_those_worked_out_by_hand() -> None:
    agreement = compare_answers("merged", reference=REFERENCE, other=other(b_label="hole"))
    assert (agreement.num_images, agreement.num_answers) == (2, 4)
    assert agreement.flipped == ("b",)
    assert agreement.largest_difference_nats == 0.25
    assert agreement.mean_difference_nats == (0.125 + 0.25) / 4
    assert agreement.worst_image == "b"


def test_agreement_within_the_tolerance_passes() -> None:
    require_agreement(compare_answers("merged", reference=REFERENCE, other=other()), tolerance_nats=0.25)


def test_one_other_label_is_refused_whatever_the_tolerance() -> None:
    agreement = compare_answers("merged", reference=REFERENCE, other=other(b_label="hole"))
    with pytest.raises(ExportError, match=r"the merged model .*: 1 labels of 2 images differ \(b\), allowed are 0"):
        require_agreement(agreement, tolerance_nats=99.0)


@pytest.mark.parametrize("value", [-3.5, math.nan, -math.inf])
def test_a_difference_above_the_tolerance_is_refused_with_the_figure(value: float) -> None:
    agreement = compare_answers("reloaded", reference=REFERENCE, other=other(b_hole=value))
    with pytest.raises(ExportError, match=r"largest log-likelihood difference (0\.5|inf) nats on b, allowed are 0\.25"):
        require_agreement(agreement, tolerance_nats=0.25)
