"""Anomaly-Instruct records become conversations, or are refused by their id."""

import json
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import Message
from velm_train.instructions.formats.anomaly_instruct import read_anomaly_instruct

ROOT = Path("/data")


def record(**changes) -> dict:
    return {
        "id": 17,
        "image": "mvtec_anomaly_detection/bottle/test/broken_large/000.png",
        "conversations": [
            {"from": "human", "value": "<image>\nIs anything wrong?"},
            {"from": "gpt", "value": "Yes, the rim is broken."},
            {"from": "human", "value": "Why?"},
            {"from": "gpt", "value": "An impact."},
        ],
        "metadata": {"anomaly": True, "target": "2D", "mask": "ground_truth/000_mask.png"},
    } | changes


@pytest.fixture
def read(tmp_path):
    def run(*records):
        (tmp_path / "data.json").write_text(json.dumps(records))
        return read_anomaly_instruct(tmp_path / "data.json", image_root=ROOT)

    return run


def turn(number: int, **changes) -> list[dict]:
    turns = record()["conversations"]
    turns[number] = turns[number] | changes
    return turns


def test_a_record_becomes_a_conversation(read):
    (found,) = read(record())
    assert found.sample_id == "17"
    assert found.image_paths == (ROOT / "mvtec_anomaly_detection/bottle/test/broken_large/000.png",)
    assert found.turns == (
        Message(role="user", text="<image>\nIs anything wrong?"),
        Message(role="assistant", text="Yes, the rim is broken."),
        Message(role="user", text="Why?"),
        Message(role="assistant", text="An impact."),
    )
    assert found.metadata == {"anomaly": True, "target": "2D", "mask": "ground_truth/000_mask.png"}
    assert found.gt_label is True


def test_fields_the_format_does_not_name_are_kept(read):
    (found,) = read(record(source="WebAD", score=0.5))
    assert found.metadata["source"] == "WebAD"
    assert found.metadata["score"] == 0.5
    assert found.metadata["target"] == "2D"


@pytest.mark.parametrize("num_placeholders", [1, 3])
def test_several_views_may_share_a_placeholder_or_have_one_each(read, num_placeholders):
    turns = turn(0, value="<image>\n" * num_placeholders + "What is it?")
    (found,) = read(record(image=["a/0.png", "a/1.png", "a/2.png"], conversations=turns, metadata={}))
    assert found.image_paths == (ROOT / "a/0.png", ROOT / "a/1.png", ROOT / "a/2.png")
    assert found.gt_label is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image": ["a.png", "b.png", "c.png"], "conversations": turn(2, value="<image> Why?")},
            "3 images but 2 <image>",
        ),
        ({"conversations": turn(0, value="Is anything wrong?")}, "1 images but 0 <image>"),
        ({"image": []}, "0 images but 1 <image>"),
        ({"image": ""}, "'image' is ''"),
        ({"image": [""]}, "every image needs a path"),
        ({"image": None}, "'image' is None"),
        ({"conversations": turn(1, **{"from": "human"})}, "turn 2: 'from' is 'human'; 'gpt' is expected"),
        ({"conversations": turn(0, **{"from": "system"})}, "turn 1: 'from' is 'system'; 'human' is expected"),
        ({"conversations": turn(3, value="")}, "turn 4: 'value' is ''"),
        ({"conversations": turn(1, weight=0)}, r"turn 2: unknown fields \['weight'\]"),
        ({"conversations": turn(0)[:3]}, "3 turns; a conversation ends with an answer"),
        ({"conversations": []}, "0 turns"),
        ({"conversations": "none"}, "'conversations' is 'none'"),
        ({"metadata": {"anomaly": "yes"}}, "metadata 'anomaly' is 'yes'"),
        ({"metadata": None}, "'metadata' is None"),
        ({"target": "3D"}, r"\['target'\] stand both in the record and in its metadata"),
    ],
)
def test_a_bad_record_is_refused_by_number_and_id(read, changes, message):
    with pytest.raises(DataError, match=r"record 2 \(id 17\).*" + message):
        read(record(id="first"), record(**changes))


def test_a_record_without_id_is_refused_by_number(read):
    nameless = record()
    del nameless["id"]
    with pytest.raises(DataError, match="record 2: 'id' is missing"):
        read(record(), nameless)
