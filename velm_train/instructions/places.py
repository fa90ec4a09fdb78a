"""An instruction sample in; whether its words would be untrue of the same pictures mirrored or turned out."""

import re

from velm_train.core.records import InstructionSample

_PLACE_WORDS = (
    "left right top bottom upper lower uppermost lowermost above below beneath up down upside sideways "
    "horizontal horizontally vertical vertically diagonal diagonally clockwise counterclockwise anticlockwise "
    "mirrored flipped rotated turned tilted upright "
    "where place places placed position positioned locate located location"
)
_SPEAKS_OF_PLACES = re.compile(rf"\b({'|'.join(_PLACE_WORDS.split())})\b", re.IGNORECASE)


def speaks_of_places(sample: InstructionSample) -> bool:
    """Tells whether question, options or answer say, or ask, where or which way round something is.

    A question that asks for a place counts whatever the answer is: were only answers without a word for a place
    mirrored, a mirrored picture would give the answer away.
    """
    texts = [*(message.text for message in sample.messages), *(option.answer for option in sample.options)]
    return any(_SPEAKS_OF_PLACES.search(text) for text in [*texts, sample.target])
