"""MMAD questions are read as the file has them, and the bad ones are marked."""

import json

import pytest

from velm_train.core.errors import DataError
from velm_train.instructions.formats.mmad import Choice, find_unusable_images, read_mmad

IMAGE = "DS-MVTec/bottle/image/broken_large/000.png"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def entry(**changes) -> dict:
    return {
        "Question": "What is the defect?",
        "Answer": "B",
        "Options": {"A": "A scratch", "B": "A broken rim"},
        "type": "Defect Classification",
        "annotation": True,
    } | changes


def image(*entries: dict, **changes) -> dict:
    return {
        "conversation": list(entries),
        "similar_templates": ["MVTec-AD/bottle/train/good/001.png"],
        "random_templates": ["MVTec-AD/bottle/train/good/002.png", "MVTec-AD/bottle/train/good/003.png"],
        "mask_path": "DS-MVTec/bottle/mask/broken_large/000.png",
    } | changes


@pytest.fixture
def read(tmp_path):
    def run(images):
        (tmp_path / "mmad.json").write_text(json.dumps(images))
        return read_mmad(tmp_path / "mmad.json")

    return run


def test_questions_are_read_in_order_with_everything_about_them(read):
    found = read({IMAGE: image(entry(level=2), entry(type="Object Details", Answer="A"))})
    first, second = found.questions
    assert found.images_without_questions == ()
    assert (first.image, first.number, second.number) == (IMAGE, 1, 2)
    assert first.question == "What is the defect?"
    assert first.choices == (Choice(letter="A", text="A scratch"), Choice(letter="B", text="A broken rim"))
    assert (first.answer, first.answer_text, second.answer_text) == ("B", "A broken rim", "A scratch")
    assert (first.question_type, first.subtask) == ("Defect Classification", "Defect Classification")
    assert (second.question_type, second.subtask) == ("Object Details", "Object Analysis")
    assert first.annotation is True
    assert first.similar_templates == ("MVTec-AD/bottle/train/good/001.png",)
    assert len(first.random_templates) == 2
    assert first.flags == ()
    assert first.metadata == {"level": 2}
    assert first.image_metadata == {"mask_path": "DS-MVTec/bottle/mask/broken_large/000.png"}


def test_the_pills_that_are_metal_nuts_are_marked(read):
    images = {
        "DS-MVTec/pill/image/good/000.png": image(entry()),
        "DS-MVTec/pill/image/crack/000.png": image(entry()),
        "DS-MVTec/metal_nut/image/good/000.png": image(entry()),
    }
    assert [question.flags for question in read(images).questions] == [("may_show_another_product",), (), ()]


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"A": "Yes", "B": "No"}, ()),
        ({"A": "A scratch", "B": "a scratch "}, ("same_choice_twice",)),
        ({"B": "Yes", "A": "No"}, ("letters_out_of_order",)),
        ({"B": "Yes", "C": "No"}, ("letters_out_of_order",)),
    ],
)
def test_choices_that_mislead_are_marked(read, options, flags):
    (question,) = read({IMAGE: image(entry(Options=options))}).questions
    assert question.flags == flags


def test_images_without_questions_are_named(read):
    silent = image()
    del silent["conversation"]
    found = read({"a.png": silent, "b.png": image(), IMAGE: image(entry())})
    assert found.images_without_questions == ("a.png", "b.png")
    assert len(found.questions) == 1


def test_the_first_conversation_counts_and_a_second_is_kept(read):
    (question,) = read({IMAGE: image(entry(), conversation_2=[entry()])}).questions
    assert question.image_metadata["conversation_2"] == [entry()]


def test_templates_may_be_missing(read):
    bare = {"conversation": [entry()]}
    (question,) = read({IMAGE: bare}).questions
    assert (question.similar_templates, question.random_templates, question.image_metadata) == ((), (), {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Answer": "C"}, "the answer is 'C'; the options are A, B"),
        ({"Answer": "a"}, "the answer is 'a'"),
        ({"Options": {"A": "Yes"}}, "1 options"),
        ({"Options": ["Yes", "No"]}, "'Options' is"),
        ({"Options": {"A": "Yes", "B": ""}}, "'B' is ''"),
        ({"Question": None}, "'Question' is None"),
        ({"type": 3}, "'type' is 3"),
    ],
)
def test_a_bad_question_is_refused_by_image_and_number(read, changes, message):
    with pytest.raises(DataError, match=f"{IMAGE}, question 2: {message}"):
        read({IMAGE: image(entry(), entry(**changes))})


def test_a_file_that_was_not_downloaded_says_so(tmp_path):
    (tmp_path / "mmad.json").write_text(POINTER)
    with pytest.raises(DataError, match=r"mmad\.json is a Git LFS pointer"):
        read_mmad(tmp_path / "mmad.json")


def test_a_list_is_not_taken_for_mmad(read):
    with pytest.raises(DataError, match=r"is it mmad\.json"):
        read([{}])


def test_images_that_cannot_be_opened_are_named_with_the_reason(read, tmp_path):
    questions = read({IMAGE: image(entry())}).questions
    for name, content in ((IMAGE, b"\x89PNG"), ("MVTec-AD/bottle/train/good/001.png", POINTER.encode())):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    assert find_unusable_images(questions, root=tmp_path) == {
        "MVTec-AD/bottle/train/good/001.png": "is a Git LFS pointer, not the picture; run `git lfs pull`",
        "MVTec-AD/bottle/train/good/002.png": "does not exist",
        "MVTec-AD/bottle/train/good/003.png": "does not exist",
    }
