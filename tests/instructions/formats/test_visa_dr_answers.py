"""Answers to VisA-D&R meet the benchmark's own file; unknown, doubled and missing images are named."""

import json

import pytest

from velm_train.core.errors import DataError
from velm_train.instructions.formats.visa_dr_answers import read_detection_answers, read_reasoning_answers

TRUTH = [
    {"image": "candle/Data/Images/Anomaly/000.JPG", "anomaly": 1},
    {"image": "pcb2/Data/Images/Normal/0001.JPG", "anomaly": 0},
]
REASONING = [
    {"image": TRUTH[0]["image"], "questions": ["What?", "Why?"], "answers": ["a red spot", "the mould leaks"]},
    {"image": "pcb2/Data/Images/Anomaly/001.JPG", "questions": ["What?"], "answers": ["a bent pin"]},
]


@pytest.fixture
def read(tmp_path):
    def run(rows, *, reasoning=False, missing="refuse"):
        (tmp_path / "truth.json").write_text(json.dumps(REASONING if reasoning else TRUTH))
        (tmp_path / "answers.json").write_text(json.dumps(rows))
        reader = read_reasoning_answers if reasoning else read_detection_answers
        return reader(tmp_path / "answers.json", truth=tmp_path / "truth.json", missing=missing)

    return run


def test_answers_stand_beside_the_truth(read):
    rows = [{"image": TRUTH[1]["image"], "answer": "No"}, {"image": TRUTH[0]["image"], "answer": "Yes."}]
    found = [(one.category, one.gt_label, one.said) for one in read(rows)]
    assert found == [("candle", True, "Yes."), ("pcb2", False, "No")]


def test_answers_in_words_stand_beside_the_references(read):
    rows = [
        {"image": REASONING[0]["image"], "answers": ["red", "heat"]},
        {"image": REASONING[1]["image"], "answers": ["bent"]},
    ]
    found = [(one.number, one.reference, one.said, one.published) for one in read(rows, reasoning=True)]
    assert found == [
        (1, "a red spot", "red", True),
        (2, "the mould leaks", "heat", True),
        (1, "a bent pin", "bent", False),
    ]


def test_missing_answers_are_empty_where_that_is_asked_for(read):
    assert [one.said for one in read([{"image": TRUTH[0]["image"], "answer": "Yes"}], missing="wrong")] == ["Yes", ""]
    rows = [{"image": REASONING[1]["image"], "answers": ["bent"]}]
    assert [one.said for one in read(rows, reasoning=True, missing="wrong")] == ["", "", "bent"]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"image": TRUTH[0]["image"], "answer": "Yes"}], "1 images have no answer, for instance 'pcb2/"),
        (
            [{"image": "candle/Data/Images/Anomaly/00.JPG", "answer": "Yes"}],
            "record 1: image 'candle/Data/Images/Anomaly/00.JPG' is not in the benchmark; did you mean 'candle/",
        ),
        (
            [{"image": TRUTH[0]["image"], "answer": "Yes"}] * 2,
            "record 2: 'candle/Data/Images/Anomaly/000.JPG' is record 1",
        ),
        ([{"image": TRUTH[i]["image"], "answer": None} for i in range(2)], "record 1: 'answer' is None"),
        ([{"answer": "Yes"}], "record 1: 'image' is missing"),
        ([], "holds no answer"),
    ],
)
def test_what_cannot_be_used_stops_with_its_record(read, rows, problem):
    with pytest.raises(DataError) as caught:
        read(rows)
    assert problem in str(caught.value)


def test_one_answer_is_needed_for_each_question(read):
    with pytest.raises(DataError, match="1 answers to 2 questions"):
        read([{"image": REASONING[0]["image"], "answers": ["red"]}], reasoning=True, missing="wrong")
