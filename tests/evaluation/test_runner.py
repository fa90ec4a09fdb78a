"""The run over gated images: what the model is asked, and what the rows say."""

from dataclasses import replace

import pytest

from velm_train.core.errors import DataError
from velm_train.core.progress import SilentProgress
from velm_train.evaluation.gated import without_pictures
from velm_train.evaluation.runner import run_evaluation

ORDERS = [("crack", "hole", "good", None), (None, "good", "hole", "crack")]


def run(images, scorer, *, on_rows=lambda _: None, done=frozenset()):
    return run_evaluation(
        images, scorer=scorer, hashes={"model": "m"}, on_rows=on_rows, done=done, progress=SilentProgress()
    )


def by_id(rows):
    return {row.image_id: row for row in rows}


def test_stopped_images_never_reach_the_model(image, counting_model, scorer_of):
    images = [image(f"t/{i}", flagged=i == 1, gt="good") for i in range(4)]
    rows = by_id(run(images, scorer_of(counting_model)))
    assert counting_model.asked == [("t/1/0",)]
    for name in ("t/0", "t/2", "t/3"):
        assert rows[name].pred_defect_type == "good"
        assert rows[name].option_log_likelihoods == {}
        assert rows[name].seconds == {"detect": 0.25}
    assert rows["t/1"].pred_defect_type == "crack"


def test_row_holds_averages_over_orders(image, question, counting_model, scorer_of):
    asked = image("t/0", questions=[question("t/0", types=types) for types in ORDERS])
    (row,) = run([asked], scorer_of(counting_model, batch_size=1))
    # The table's value plus 0.1 per place: crack stands at 0 and 3, hole at 1 and 2, ...
    assert row.option_log_likelihoods == pytest.approx(
        {"fine crack": -0.85, "hole": -1.85, "no defect": -2.85, "none of these": -3.85}
    )
    assert row.pred_defect_type == "crack"
    assert (row.gt_defect_type, row.p_value, row.gate_policy, row.hashes) == ("crack", 0.01, "detector", {"model": "m"})
    assert row.region_boxes_xyxy == ((0, 0, 2, 3),)
    assert set(row.seconds) == {"detect", "answer"}


def test_the_truth_changes_no_answer(image, counting_model, scorer_of):
    rows = [run([image("t/0", gt=gt)], scorer_of(counting_model))[0] for gt in ("crack", "good", None)]
    timeless = [replace(row, gt_defect_type=None, seconds={}) for row in rows]
    assert timeless[0] == timeless[1] == timeless[2]


def test_none_of_these_is_no_type(image, counting_model, scorer_of):
    counting_model.table[14] = 5.0
    assert run([image("t/0")], scorer_of(counting_model))[0].pred_defect_type is None


def test_surest_region_names_the_image(image, question, counting_model, scorer_of):
    regions = [question("t/0", types=("good", "crack")), question("t/0", types=("good", "hole"), region_index=1)]
    counting_model.table.update({11: -2.0, 12: -1.0, 13: -1.5})
    (row,) = run([image("t/0", questions=regions, peaks=(9.0, 1.0))], scorer_of(counting_model))
    assert row.pred_defect_type == "hole"
    assert set(row.option_log_likelihoods) == {"hole", "no defect"}


def test_longest_questions_are_asked_first(image, question, counting_model, scorer_of):
    lengths = [4, 9, 6, 7]
    images = [image(f"t/{i}", questions=[question(f"t/{i}", types=ORDERS[0], length=n)]) for i, n in enumerate(lengths)]
    run(images, scorer_of(counting_model))
    assert counting_model.widths == [9, 6]


def test_rows_are_handed_over_after_every_batch_and_a_rerun_asks_for_the_rest(image, counting_model, scorer_of):
    images = [image(f"t/{i}", flagged=i > 0) for i in range(6)]
    kept = []

    def keep(rows):
        kept.append([row.image_id for row in rows])
        if len(kept) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, scorer_of(counting_model), on_rows=keep)
    assert kept == [["t/0"], ["t/1", "t/2"]]
    counting_model.asked.clear()
    rows = run(images, scorer_of(counting_model), done={name for names in kept for name in names})
    assert counting_model.asked == [("t/3/0", "t/4/0"), ("t/5/0",)]
    assert [row.image_id for row in rows] == ["t/3", "t/4", "t/5"]


def test_equal_questions_are_computed_once(image, question, counting_model, scorer_of):
    images = [image(f"t/{i}", questions=[question(f"t/{i}", types=ORDERS[0], key="same")]) for i in range(5)]
    rows = run(images, scorer_of(counting_model))
    assert counting_model.asked == [("t/0/0",)]
    assert len(rows) == 5
    assert len({row.seconds["answer"] for row in rows}) == 1


def test_image_blind_questions_are_those_of_one_region_per_category(image, question, counting_model, scorer_of):
    def asked(name, category):
        length = 5 if category == "tile" else 4
        questions = [question(name, types=types, region_index=i, length=length) for i in range(2) for types in ORDERS]
        return image(name, category=category, questions=questions, peaks=(1.0, 2.0))

    images = [asked("t/1", "tile"), asked("t/0", "tile"), asked("w/0", "wood"), image("t/2", flagged=False)]
    blind = without_pictures(images)
    rows = by_id(run(blind, scorer_of(counting_model, batch_size=10)))
    assert sorted(name for names in counting_model.asked for name in names) == ["t/0/0", "t/0/0", "w/0/0", "w/0/0"]
    assert rows["t/1"].option_log_likelihoods == rows["t/0"].option_log_likelihoods
    assert rows["t/2"].pred_defect_type == "good"


def test_an_image_must_agree_with_its_gate(image, question):
    with pytest.raises(DataError, match="flagged but without"):
        image("t/0", questions=[])
    with pytest.raises(DataError, match="beyond the 1"):
        image("t/0", questions=[question("t/0", types=ORDERS[0], region_index=1)])
    with pytest.raises(DataError, match="decision of t/1"):
        replace(image("t/0"), image_id="t/1x", decision=image("t/1").decision)
