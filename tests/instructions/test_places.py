"""A sample whose words say or ask where something is is known as such."""

import pytest

from velm_train.core.records import InstructionSample, Message, Option
from velm_train.instructions.answers import CELLS
from velm_train.instructions.places import speaks_of_places
from velm_train.instructions.tasks import locate_then_name, name_type, same_or_different


def sample(prompt: str, *, target: str = "cut", options: tuple[str, ...] = ("cut", "no defect")) -> InstructionSample:
    return InstructionSample(
        sample_id="s",
        image_id="i",
        category="nut",
        task="name_type",
        views=(),
        messages=(Message(role="user", text=prompt),),
        target=target,
        options=tuple(Option(answer=answer, defect_type=answer) for answer in options),
        provenance={},
    )


def filled(template: str) -> str:
    names = {"views": "Part: \n", "descriptions": "", "options": "cut, no defect", "noun": "nut"}
    return template.format(**names, first="same", second="different")


@pytest.mark.parametrize("template", locate_then_name.TEMPLATES)
def test_every_question_for_a_place_counts_whatever_the_answer(template: str) -> None:
    for target in ("no defect", "center, cut"):
        assert speaks_of_places(sample(filled(template), target=target))


@pytest.mark.parametrize("template", [*name_type.TEMPLATES, *same_or_different.TEMPLATES])
def test_questions_for_a_type_do_not(template: str) -> None:
    assert not speaks_of_places(sample(filled(template)))


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "center"])
def test_every_place_in_an_answer_counts(cell: str) -> None:
    assert speaks_of_places(sample("Defect:", target=f"{cell}, cut"))


def test_options_and_descriptions_count() -> None:
    assert speaks_of_places(sample("Defect:", options=("thread top", "no defect")))
    assert speaks_of_places(sample("cut: a notch on the LEFT flank.\nDefect:"))


def test_words_that_only_hold_one_do_not() -> None:
    assert not speaks_of_places(sample("A brightly stopped rupture, leftover topping, uprooted:"))
