"""Answers are calibrated on images that had no part in training and have none in the test; without any, it is said."""

import json

import pytest

from velm_train.core.answer_scores import AnswerPolicy


def test_without_images_set_aside_answers_are_as_the_model_gives_them(road) -> None:
    answers = road.results.answers
    assert answers is not None
    assert (answers.policy, answers.after) == (None, None)
    assert "protocol.validation_per_type" in answers.note
    assert "Answers are not calibrated" in road.shown
    assert not (road.folder / "answers.json").exists()
    assert answers.image_blind is not None


@pytest.mark.slow
def test_images_set_aside_calibrate_the_answers_and_are_not_tested(run_again) -> None:
    words = ("dataset.synthesis.defects_seen=6", "protocol.validation_per_type=2", "evaluation.answers.max_error=0.4")
    run = run_again(*words)
    entries = json.loads((run.folder / "split.json").read_text())["entries"]
    aside = {entry["image_id"] for entry in entries if entry["role"] == "validation"}
    assert aside
    assert aside.isdisjoint(row.image_id for row in run.predictions)
    policy = AnswerPolicy.from_json(json.loads((run.folder / "answers.json").read_text()))
    assert run.results.answers.policy == policy
    assert policy.categories == ("metal_brushed", "wood_oak")
    assert 0 < policy.num_parts <= policy.num_rows <= len(aside)
    assert policy.operating_point.num_defects == len(aside)
    assert run.results.answers.after is not None
