"""Views of one part become one score."""

import numpy as np

from velm_train.gating.parts import part_numbers, part_scores


def test_parts_are_numbered_in_order_of_first_appearance():
    assert part_numbers(["b", "a", "b", "c"]) == (0, 1, 0, 2)


def test_part_has_the_score_of_its_most_anomalous_view():
    assert part_scores(np.array([1.0, -3.0, 4.0, -5.0]), (0, 1, 0, 1)).tolist() == [4.0, -3.0]
    assert part_scores(np.zeros(0), ()).tolist() == []


def test_single_views_keep_their_scores_and_order():
    scores = np.array([3.0, 1.0, 2.0])
    assert part_scores(scores, part_numbers(["x", "y", "z"])).tolist() == scores.tolist()
