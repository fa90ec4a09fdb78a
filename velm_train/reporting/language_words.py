"""Rows of the language check go in; the table that terminal and page show comes out as words."""

from rich.table import Table
from rich.text import Text

from velm_train.core.language import LanguageRow
from velm_train.reporting import words

CHECK_NAMES = {
    "permuted": "names of the types exchanged",
    "nonsense": "names that mean nothing",
    "synonym": "synonyms",
    "no_noun": "object not named",
}
"""What a check is called for people; others keep their own name."""


def check_name(row: LanguageRow) -> str:
    """Returns what a check is called for people."""
    return CHECK_NAMES[row.check] if row.check in CHECK_NAMES else row.check


def language_table(rows: tuple[LanguageRow, ...]) -> Table:
    """Returns balanced recall of flagged defects in the words as taught and in others, for the terminal."""
    table = Table(title="How much the words matter, flagged defects, in percent")
    table.add_column("the same questions with", max_width=32, overflow="fold")
    for heading in ("n", "as\ntaught", "so\nasked", "difference", "same\ntype", "same\nword"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        ends = words.signed_interval(row.difference)
        difference = words.signed_points(row.difference.value)
        table.add_row(
            Text(check_name(row)),
            str(row.num_images),
            words.percent(row.own_words.value),
            words.percent(row.other_words.value),
            f"{difference} [{ends}]" if ends else difference,
            words.percent(row.same_type.value),
            words.ABSENT if row.same_word is None else words.percent(row.same_word.value),
        )
    return table
