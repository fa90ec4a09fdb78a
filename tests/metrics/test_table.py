"""What a table accepts, refuses and derives."""

import math

import pytest

from velm_train.core.errors import DataError
from velm_train.metrics.table import NONE_OF_THESE_INDEX, NORMAL_INDEX, UNPARSED_INDEX, make_table

LABELS = {"nut": ("bent", "cut")}


def test_indices_follow_the_fixed_list_and_rows_are_sorted(row):
    table = make_table([row("b", "good", "good"), row("a", "cut", "bent")], label_sets=LABELS)
    assert table.image_ids == ("a", "b")
    assert table.gt_type.tolist() == [1, NORMAL_INDEX]
    assert table.pred_type.tolist() == [0, NORMAL_INDEX]
    assert table.correct.tolist() == [False, True]


def test_same_type_name_of_two_categories_is_two_types(row):
    rows = [row("a", "cut", "cut"), row("b", "cut", "cut", category="tile")]
    table = make_table(rows, label_sets={"nut": ("cut",), "tile": ("cut",)})
    assert table.gt_type.tolist() == [0, 1]
    assert len(set(table.strata.tolist())) == 2


def test_none_of_these_is_told_from_unparsed(row):
    rows = [
        row("a", "cut", None, options={"cut": -3.0, "none of these": -1.0}),
        row("b", "cut", None, options={"cut": -1.0, "none of these": -3.0}),
        row("c", "cut", None),
    ]
    table = make_table(rows, label_sets=LABELS)
    assert table.pred_type.tolist() == [NONE_OF_THESE_INDEX, UNPARSED_INDEX, UNPARSED_INDEX]


def test_confidence_is_the_softmax_of_the_likeliest_option(row):
    rows = [row("a", "cut", "cut", options={"cut": math.log(0.6), "bent": math.log(0.2), "no defect": math.log(0.2)})]
    table = make_table(rows, label_sets=LABELS)
    assert table.confidence[0] == pytest.approx(0.6)
    shifted = [row("a", "cut", "cut", options={"cut": math.log(0.6) - 1000, "bent": math.log(0.4) - 1000})]
    assert make_table(shifted, label_sets=LABELS).confidence[0] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", None, "cut"), "no true defect type"),
        (("a", "cuts", "cut"), "true type 'cuts'"),
        (("a", "cut", "cuts"), "predicted type 'cuts'"),
    ],
)
def test_row_outside_the_label_list_is_refused_by_name(row, arguments, said):
    with pytest.raises(DataError, match=said):
        make_table([row(*arguments)], label_sets=LABELS)


def test_category_without_label_list_is_refused(row):
    with pytest.raises(DataError, match="tile"):
        make_table([row("a", "cut", "cut", category="tile")], label_sets=LABELS)


def test_good_in_a_label_list_is_refused(row):
    with pytest.raises(DataError, match="good"):
        make_table([row("a", "cut", "cut")], label_sets={"nut": ("cut", "good")})


def test_repeated_image_is_refused(row):
    with pytest.raises(DataError, match="more than one prediction"):
        make_table([row("a", "cut", "cut"), row("a", "cut", "bent")], label_sets=LABELS)


def test_category_in_two_groups_is_refused(row):
    with pytest.raises(DataError, match="groups"):
        make_table([row("a", "cut", "cut"), row("b", "cut", "cut", group="unseen")], label_sets=LABELS)


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="no predictions"):
        make_table([], label_sets=LABELS)


def test_option_likelihood_that_is_not_finite_is_refused(row):
    with pytest.raises(DataError, match="not all finite"):
        make_table([row("a", "cut", "cut", options={"cut": float("nan")})], label_sets=LABELS)


def test_none_of_these_is_right_for_a_type_that_nobody_was_taught_and_its_name_is_not(row) -> None:
    none = {"cut": -3.0, "none of these": -0.1}
    rows = [
        row("a", "bent", None, options=none),
        row("b", "bent", "bent"),
        row("c", "cut", None, options=none),
        row("d", "cut", "cut"),
        row("e", "good", "good"),
    ]
    table = make_table(rows, label_sets=LABELS, unknown_types={"nut": ("bent",)})
    assert table.correct.tolist() == [True, False, False, True, True]
    assert make_table(rows, label_sets=LABELS).correct.tolist() == [False, True, False, True, True]


def test_unknown_type_without_a_place_on_the_list_is_refused(row) -> None:
    with pytest.raises(DataError, match=r"unknown types \['burnt'\] are on no label list"):
        make_table([row("a", "cut", "cut")], label_sets=LABELS, unknown_types={"nut": ("burnt",)})
