"""VisA-D&R records are read with their category, and what the published figures leave out is marked."""

import json

import pytest

from velm_train.core.errors import DataError
from velm_train.instructions.formats.visa_dr import read_detection, read_reasoning

CANDLE = "VisA/candle/Data/Images/Anomaly/000.JPG"
PCB = "VisA/pcb4/Data/Images/Anomaly/001.JPG"


@pytest.fixture
def write(tmp_path):
    def run(*records):
        (tmp_path / "bench.json").write_text(json.dumps(records))
        return tmp_path / "bench.json"

    return run


def reasoning(**changes) -> dict:
    return {"image": CANDLE, "questions": ["What is wrong?", "Why?"], "answers": ["A dent.", "Heat."]} | changes


def test_detection_records_are_read(write):
    path = write({"image": CANDLE, "anomaly": True}, {"image": PCB, "anomaly": 0, "note": "x"})
    candle, pcb = read_detection(path)
    assert (candle.image, candle.category, candle.gt_label, candle.metadata) == (CANDLE, "candle", True, {})
    assert (pcb.category, pcb.gt_label, pcb.metadata) == ("pcb4", False, {"note": "x"})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image": PCB}, "'anomaly' is missing"),
        ({"image": PCB, "anomaly": "Yes"}, "neither true nor false"),
        ({"image": "VisA/pcb5/000.JPG", "anomaly": 1}, "no VisA category"),
        ({"anomaly": 1}, "'image' is missing"),
        ({"image": CANDLE, "anomaly": 1}, "again; it is record 1 too"),
    ],
)
def test_a_bad_detection_record_is_refused_by_number(write, record, message):
    with pytest.raises(DataError, match=f"record 2.*{message}"):
        read_detection(write({"image": CANDLE, "anomaly": True}, record))


def test_reasoning_records_are_read(write):
    candle, pcb = read_reasoning(write(reasoning(level="low"), reasoning(image=PCB)))
    assert candle.questions == ("What is wrong?", "Why?")
    assert candle.answers == ("A dent.", "Heat.")
    assert candle.metadata == {"level": "low"}
    assert (candle.category, candle.in_published_figures) == ("candle", True)
    assert (pcb.category, pcb.in_published_figures) == ("pcb4", False)


def test_answers_may_lie_in_another_field(write):
    record = reasoning()
    record["gpt"] = record.pop("answers")
    (found,) = read_reasoning(write(record), answers_key="gpt")
    assert found.answers == ("A dent.", "Heat.")
    with pytest.raises(DataError, match="'answers' is missing; it has 'image', 'questions', 'gpt'"):
        read_reasoning(write(record))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": ["A dent."]}, "2 questions and 1 answers"),
        ({"questions": [], "answers": []}, "0 questions and 0 answers"),
        ({"questions": "What?"}, "'questions' is 'What[?]'"),
        ({"anomaly": False}, "a normal image"),
        ({"image": CANDLE}, "again; it is record 1 too"),
    ],
)
def test_a_bad_reasoning_record_is_refused_by_number(write, changes, message):
    with pytest.raises(DataError, match=f"record 2.*{message}"):
        read_reasoning(write(reasoning(), reasoning(**({"image": PCB} | changes))))
