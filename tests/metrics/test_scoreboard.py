"""The assembled scoreboard: sets of images, JSON, trivial rows, seconds."""

import json

import pytest

from velm_train.core.errors import DataError
from velm_train.core.scores import Scoreboard
from velm_train.metrics.scoreboard import System, make_scoreboard, score_rows, seconds_by_stage
from velm_train.metrics.system import majority_predictions

LABELS = {"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}


@pytest.fixture
def board(random_rows):
    rows = random_rows(0)
    return make_scoreboard(
        [
            System(name="this run", predictions=rows),
            System(name="majority type", predictions=majority_predictions(rows, label_sets=LABELS), trivial=True),
            System(name="image-blind", predictions=rows[:100], subset_note="first 100 images"),
        ],
        label_sets=LABELS,
        num_bootstrap=50,
        seed=0,
    )


def test_groups_and_categories_are_scored_apart(random_rows):
    scores = score_rows(random_rows(0), label_sets=LABELS, num_bootstrap=20, seed=0)
    assert [group.name for group in scores.groups] == ["seen", "unseen"]
    assert [category.name for category in scores.categories] == ["nut", "tile"]
    assert scores.group("seen").num_images + scores.group("unseen").num_images == scores.overall.num_images == 240
    assert scores.group("elsewhere") is None
    means = [c.system.end_to_end_balanced_recall.value for c in scores.categories]
    assert scores.overall.system.end_to_end_balanced_recall.value == pytest.approx(sum(means) / 2)


def test_order_of_rows_does_not_matter(random_rows):
    rows = random_rows(0)
    straight = score_rows(rows, label_sets=LABELS, num_bootstrap=20, seed=0)
    turned = score_rows(rows[::-1], label_sets=LABELS, num_bootstrap=20, seed=0)
    assert straight.overall == turned.overall


def test_scoreboard_survives_json(board):
    text = json.dumps(board.to_json(), allow_nan=False)
    assert Scoreboard.from_json(json.loads(text)) == board


def test_unknown_or_missing_field_in_json_is_refused(board):
    body = board.to_json()
    del body["seed"]
    with pytest.raises(DataError, match=r"missing fields \['seed'\]"):
        Scoreboard.from_json(body)


def test_rows_show_what_they_rest_on(board):
    assert [row.scores.overall.num_images for row in board.rows] == [240, 240, 100]
    assert board.rows[2].subset_note == "first 100 images"
    assert board.rows[0].versus_first is None
    assert board.rows[2].versus_first.difference.value == 0.0
    assert board.rows[1].versus_first.difference.value < 0


def test_fewer_images_without_a_reason_are_refused(random_rows):
    rows = random_rows(0)
    systems = [System(name="a", predictions=rows), System(name="b", predictions=rows[1:])]
    with pytest.raises(DataError, match="lacks 1 of 240 images"):
        make_scoreboard(systems, label_sets=LABELS, num_bootstrap=5, seed=0)


def test_images_the_run_never_saw_are_refused(random_rows):
    rows = random_rows(0)
    systems = [System(name="a", predictions=rows[1:]), System(name="b", predictions=rows, subset_note="x")]
    with pytest.raises(DataError, match="that 'a' lacks"):
        make_scoreboard(systems, label_sets=LABELS, num_bootstrap=5, seed=0)


def test_two_rows_of_one_name_are_refused(random_rows):
    systems = [System(name="a", predictions=random_rows(0))] * 2
    with pytest.raises(DataError, match="no name may occur twice"):
        make_scoreboard(systems, label_sets=LABELS, num_bootstrap=5, seed=0)


def test_confusion_counts_every_image_once(board):
    confusions = board.rows[0].scores.confusions
    assert sum(sum(map(sum, confusion.counts)) for confusion in confusions) == 240
    nut = confusions[0]
    assert nut.gt_labels == ("bent", "cut", "rust", "good")
    assert nut.pred_labels == ("bent", "cut", "rust", "good", "none of these", "unparsed")


def test_seconds_are_summed_by_stage_and_over_stages(row):
    rows = [
        row("a", "cut", "cut", seconds={"detect": 1.0, "answer": 4.0}),
        row("b", "good", "good", seconds={"detect": 2.0}),
        row("c", "good", "good", seconds={"detect": 6.0}),
    ]
    detect, answer, everything = seconds_by_stage(rows)
    assert (detect.mean, detect.median, detect.total, detect.n) == (3.0, 2.0, 9.0, 3)
    assert (answer.total, answer.n) == (4.0, 1)
    assert (everything.stage, everything.mean, everything.n) == ("all stages", 13 / 3, 3)


def test_rows_without_timing_have_no_seconds(row):
    assert seconds_by_stage([row("a", "cut", "cut")]) == ()
