"""What the words are worth, on hand-made answers."""

import pytest

from velm_train.core.errors import DataError
from velm_train.metrics.language_check import language_row

LABELS = {"nut": ("bent", "cut")}


def asked(row, image_id: str, gt: str, pred: str | None, word: str):
    """One answer whose likeliest option reads `word`."""
    return row(image_id, gt, pred, flagged=True, options={word: -0.1, "else": -2.0, "no defect": -3.0})


def compare(own, other, *, compares_words: bool = True):
    return language_row(
        "permuted", own, other, label_sets=LABELS, compares_words=compares_words, num_bootstrap=200, seed=0
    )


def test_model_that_follows_the_words_keeps_the_word_and_loses_the_type(row) -> None:
    truths = ["bent", "bent", "bent", "cut"]
    swapped = {"bent": "cut", "cut": "bent"}
    own = [asked(row, str(i), gt, gt, gt) for i, gt in enumerate(truths)]
    other = [asked(row, str(i), gt, swapped[gt], gt) for i, gt in enumerate(truths)]
    result = compare(own, other)
    assert (result.num_images, result.own_words.value, result.other_words.value) == (4, 1.0, 0.0)
    assert result.difference.value == -1.0
    assert (result.same_type.k, result.same_word.k) == (0, 4)


def test_model_that_ignores_the_words_keeps_the_type(row) -> None:
    truths, said = ["bent", "bent", "cut", "cut"], ["bent", "cut", "cut", "cut"]
    swapped = {"bent": "cut", "cut": "bent"}
    own = [asked(row, str(i), gt, pred, pred) for i, (gt, pred) in enumerate(zip(truths, said, strict=True))]
    other = [asked(row, str(i), gt, pred, swapped[pred]) for i, (gt, pred) in enumerate(zip(truths, said, strict=True))]
    result = compare(own, other)
    assert result.own_words.value == result.other_words.value == pytest.approx(0.75)  # (1/2 + 2/2) / 2
    assert result.difference.value == 0.0
    assert (result.same_type.value, result.same_word.value) == (1.0, 0.0)


def test_only_flagged_defects_asked_both_ways_count(row) -> None:
    own = [
        asked(row, "a", "bent", "bent", "bent"),
        asked(row, "b", "good", "bent", "bent"),
        row("c", "cut", "good"),
        asked(row, "d", "cut", "cut", "cut"),
    ]
    other = [asked(row, "a", "bent", None, "none of these"), asked(row, "b", "good", "good", "no defect"), own[2]]
    result = compare(own, other)
    assert result.num_images == 1
    assert (result.own_words.value, result.other_words.value, result.same_type.k) == (1.0, 0.0, 0)


def test_new_words_cannot_stay_the_same(row) -> None:
    own = [asked(row, "a", "bent", "bent", "bent")]
    assert compare(own, [asked(row, "a", "bent", "bent", "blicket")], compares_words=False).same_word is None


def test_nothing_to_ask_is_said_and_an_image_asked_once_is_refused(row) -> None:
    nothing = compare([row("c", "cut", "good")], [])
    assert (nothing.num_images, nothing.own_words.value) == (0, None)
    assert "the gate flagged no defective image" in nothing.difference.note
    with pytest.raises(DataError, match="1 images were asked in other words only, for instance 'x'"):
        compare([], [asked(row, "x", "cut", "cut", "cut")])
