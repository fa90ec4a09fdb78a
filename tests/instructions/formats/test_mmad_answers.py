"""Answers in MMAD's own format find their questions, in whatever order the options were asked."""

import json

import pytest

from velm_train.core.errors import DataError
from velm_train.instructions.formats.mmad_answers import read_mmad_answers

BROKEN = "DS-MVTec/bottle/image/broken_large/000.png"
GOOD = "VisA/candle/test/good/0011.JPG"
QUESTION = "What is the defect?"


def asked(question=QUESTION, kind="Defect Classification", answer="B", **options) -> dict:
    return {
        "Question": question,
        "Answer": answer,
        "Options": options or {"A": "A scratch", "B": "A broken rim", "C": "A hole"},
        "type": kind,
    }


MMAD = {
    BROKEN: {
        "conversation": [
            asked("Is there any defect?", "Anomaly Detection", "A", A="Yes", B="No"),
            asked(),
            asked("What is the defect?", "Object Details", "A", A="Round", B="Square"),
        ]
    },
    GOOD: {"conversation": [asked("Is there any defect?", "Anomaly Detection", "B", A="Yes", B="No")]},
    "VisA/candle/test/good/0012.JPG": {"mask_path": "none"},
}


def given(image=BROKEN, text=f"Question 2: {QUESTION} \n", kind="Defect Classification", **changes) -> dict:
    return {
        "image": image,
        "question": {
            "type": "text",
            "text": text,
            "options": {"A": "A scratch", "B": "A broken rim", "C": "A hole"},
        },
        "question_type": kind,
        "correct_answer": "B",
        "gpt_answer": "B",
    } | changes


@pytest.fixture
def read(tmp_path):
    def run(rows, mmad=MMAD):
        (tmp_path / "mmad.json").write_text(json.dumps(mmad))
        (tmp_path / "answers.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
        return read_mmad_answers(tmp_path / "answers.json", questions=tmp_path / "mmad.json")

    return run


def test_an_answer_finds_its_question_and_the_rest_is_unanswered(read):
    found = read([given(gpt_answer="C")])
    (answer,) = found.answers
    assert (answer.where, answer.image, answer.number, answer.dataset) == ("record 1", BROKEN, 2, "DS-MVTec")
    assert (answer.subtask, answer.said, answer.gt_letter, answer.response) == ("Defect Classification", "C", "B", None)
    assert answer.in_file_order
    assert not answer.shows_normal
    rest = {(one.image, one.number, one.subtask, one.gt_letter, one.shows_normal) for one in found.unanswered}
    assert rest == {
        (BROKEN, 1, "Anomaly Detection", "A", False),
        (BROKEN, 3, "Object Analysis", "A", False),
        (GOOD, 1, "Anomaly Detection", "B", True),
    }
    assert found.images_without_questions == ("VisA/candle/test/good/0012.JPG",)


def test_permuted_options_keep_their_right_choice(read):
    turned = {"text": QUESTION, "options": {"A": "A broken rim", "B": "A hole", "C": "A scratch"}}
    first, second = read([given(), given(question=turned, correct_answer="A", gpt_answer="A")]).answers
    assert (first.number, second.number) == (2, 2)
    assert (first.in_file_order, second.in_file_order) == (True, False)
    assert (first.gt_letter, second.gt_letter) == ("B", "A")


def test_equal_wording_is_told_apart_by_the_options(read):
    row = given(kind="Object Details", correct_answer="A", gpt_answer="B")
    row["question"] = {"text": QUESTION, "options": {"A": "Round", "B": "Square"}}
    assert read([row]).answers[0].number == 3


def test_options_may_be_part_of_the_text_alone(read):
    row = given(GOOD, kind="Anomaly Detection", question="Question: Is there any defect? \nA. Yes\nB. No\n")
    (answer,) = read([row]).answers
    assert (answer.image, answer.options) == (GOOD, {"A": "Yes", "B": "No"})


def test_one_record_a_line_and_a_response_beside_the_letter(read):
    rows = [given(response="It is B."), given(GOOD, "Is there any defect?", "Anomaly Detection")]
    rows[1]["question"]["options"] = {"A": "Yes", "B": "No"}
    found = read("\n".join(json.dumps(row) for row in rows) + "\n\n").answers
    assert [(one.said, one.response) for one in found] == [("B", "It is B."), ("B", None)]


def test_the_same_question_twice_takes_both_answers_once(read):
    mmad = {BROKEN: {"conversation": [asked(), asked()]}}
    assert [one.number for one in read([given(), given(gpt_answer="A")], mmad).answers] == [1, 2]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([given("VisA/x.png")], "record 1 (VisA/x.png): mmad.json asks nothing about this image"),
        ([given(text="Why?")], "mmad.json has no such question with these options"),
        ([given(), given(gpt_answer="A")], "record 2"),
        ([given(), given(gpt_answer="A")], "answered in the same order in record 1 already"),
        ([given(kind="Defect Analysis")], "the type is 'Defect Analysis', in mmad.json 'Defect Classification'"),
        ([given(correct_answer="C")], "'correct_answer' is 'C', but mmad.json says 'B' ('A broken rim')"),
        ([given(gpt_answer=None)], "'gpt_answer' is None; text is expected"),
        ([given(question=7)], "'question' is 7"),
        ([given(question={"text": QUESTION, "options": ["a"]})], "the options are ['a']"),
        ([], "holds no answer"),
        ("", "is empty"),
        ('{"image": 1', "line 1"),
        ('[{"image": "x"', "damaged or cut at record 1"),
        ("3", "a list of records is expected"),
    ],
)
def test_what_cannot_be_used_stops_with_its_record(read, rows, problem):
    with pytest.raises(DataError) as caught:
        read(rows)
    assert problem in str(caught.value)
