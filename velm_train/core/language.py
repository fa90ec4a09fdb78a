"""What the language check says: how answers change when the same questions are asked in other words.

two runs over the same questions -> metrics/ -> LanguageRow -> reporting/ -> results.json, report.html, terminal
"""

from dataclasses import dataclass

from velm_train.core.scores import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageRow:
    """One change of wording, on defective images that the gate flagged.

    Attributes:
        check: what was changed.
        num_images: images asked in both wordings.
        own_words: balanced recall with the names as taught, on these images.
        other_words: the same with the names changed.
        difference: other minus own, paired.
        same_type: share of images whose answer is the same type as before; high means that the words do not matter.
        same_word: share of images whose answer is the same word as before; None where the words are new ones.
    """

    check: str
    num_images: int
    own_words: Score
    other_words: Score
    difference: Score
    same_type: Score
    same_word: Score | None
