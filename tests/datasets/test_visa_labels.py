"""Facts about the spelling of VisA's labels."""

import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import TYPE_JOINER
from velm_train.datasets.visa_labels import SPELLINGS, canonical_label


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Bubble", "bubble"),
        (" wrong place ", "wrong-place"),
        ("Different Colour Spot", "different-colour-spot"),
        ("different color spot", "different-colour-spot"),
        ("Color spot similar to the Object", "colour-spot-similar-to-the-object"),
        ("foreign particals on candle", "foreign-particles-on-candle"),
        ("Wax Melded out of the candle", "wax-melted-out-of-the-candle"),
        ("corner/edge  breakage", "corner-edge-breakage"),
        ("chunk_of_wax - missing", "chunk-of-wax-missing"),
    ],
)
def test_labels_have_one_spelling(raw: str, expected: str) -> None:
    assert canonical_label(raw) == expected
    assert canonical_label(expected) == expected


def test_only_whole_words_are_respelt() -> None:
    assert canonical_label("discolor") == "discolor"
    assert canonical_label("colored spot") == "colored-spot"


def test_new_spellings_are_never_old_ones() -> None:
    assert set(SPELLINGS).isdisjoint(SPELLINGS.values())


@pytest.mark.parametrize("raw", ["", "  ", "-/-", "bubble,leak", f"bubble{TYPE_JOINER}leak", "spot?", "größe"])
def test_what_is_not_one_label_is_refused(raw: str) -> None:
    with pytest.raises(DataError, match="is not one label"):
        canonical_label(raw)
