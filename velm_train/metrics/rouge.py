"""Two texts go in, their ROUGE-L F-measure comes out."""

import re
from collections.abc import Sequence

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")


def words_of(text: str) -> list[str]:
    """Returns runs of a-z and 0-9 in lower case, unstemmed, as Google's rouge-score splits text."""
    return [word for word in _NOT_A_WORD.split(text.lower()) if word]


def rouge_l(said: str, reference: str) -> float:
    """Returns the F-measure of the longest common subsequence of words (Lin 2004, sentence level, beta 1), 0..1.

    Args:
        said: the text to score.
        reference: the text it should be like.
    """
    found, wanted = words_of(said), words_of(reference)
    if not found or not wanted:
        return 0.0
    return 2 * longest_common_subsequence(found, wanted) / (len(found) + len(wanted))


def longest_common_subsequence(first: Sequence[str], other: Sequence[str]) -> int:
    """Returns the length of the longest sequence of words that both hold in this order, gaps allowed."""
    lengths = [0] * (len(other) + 1)
    for word in first:
        diagonal = 0
        for place, candidate in enumerate(other, start=1):
            above = lengths[place]
            lengths[place] = diagonal + 1 if word == candidate else max(above, lengths[place - 1])
            diagonal = above
    return lengths[-1]
