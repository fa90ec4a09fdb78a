"""Facts about what a fold leaves out."""

import pytest

from velm_train.core.errors import DataError
from velm_train.datasets.folds import left_out_categories, unknown_types

NAMES = ("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather")


@pytest.mark.parametrize("num_folds", [2, 3, 7])
def test_folds_share_the_categories_evenly(num_folds: int) -> None:
    folds = [left_out_categories(NAMES, fold=fold, num_folds=num_folds) for fold in range(num_folds)]
    assert sorted(name for fold in folds for name in fold) == sorted(NAMES)
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_folds_do_not_depend_on_the_order_of_the_names() -> None:
    assert left_out_categories(NAMES[::-1], fold=0, num_folds=3) == left_out_categories(NAMES, fold=0, num_folds=3)


def test_more_folds_than_categories_are_refused() -> None:
    with pytest.raises(DataError, match="num_folds is 8, but 7 categories"):
        left_out_categories(NAMES, fold=0, num_folds=8)


def test_category_with_few_types_leaves_one_out_in_every_fold() -> None:
    types = {"bottle": ["big", "small"], "cable": ["a", "b", "c", "d"]}
    folds = [unknown_types(types, fold=fold, num_folds=4) for fold in range(4)]
    assert [len(fold["bottle"]) for fold in folds] == [1, 1, 1, 1]
    assert folds[0]["bottle"] == folds[2]["bottle"] != folds[1]["bottle"]
    assert sorted(kind for fold in folds for kind in fold["cable"]) == ["a", "b", "c", "d"]


def test_category_with_one_type_has_nothing_unknown() -> None:
    assert unknown_types({"bottle": ["big"], "cable": ["a", "b"]}, fold=0, num_folds=2).keys() == {"cable"}


def test_joined_types_go_with_their_unknown_part() -> None:
    types = {"cable": ["a", "b", "a+b", "c"]}
    folds = [set(unknown_types(types, fold=fold, num_folds=4)["cable"]) for fold in range(4)]
    assert sorted(map(sorted, folds)) == [["a", "a+b"], ["a+b"], ["a+b", "b"], ["c"]]


def test_fold_that_leaves_nothing_to_learn_is_refused() -> None:
    types = {"cable": ["a", "a+b"]}
    refused = []
    for fold in range(2):
        try:
            unknown_types(types, fold=fold, num_folds=2)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) == 1
    assert "category 'cable'" in refused[0]
