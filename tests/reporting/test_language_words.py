"""The language check on the terminal: every figure in its column, dashes where there is none."""

from io import StringIO

from rich.console import Console

from velm_train.core.language import LanguageRow
from velm_train.core.scores import Score
from velm_train.reporting import words
from velm_train.reporting.language_words import check_name, language_table


def figure(value: float | None) -> Score:
    if value is None:
        return Score.undefined("nothing to ask")
    return Score(value=value, low=value - 0.1, high=value + 0.1, n=8, k=None, interval="bootstrap", note="")


def row(check: str, own: float | None, other: float | None, *, word: float | None) -> LanguageRow:
    both = own is not None and other is not None
    return LanguageRow(
        check=check,
        num_images=8,
        own_words=figure(own),
        other_words=figure(other),
        difference=figure(other - own if both else None),
        same_type=figure(0.25),
        same_word=None if word is None else figure(word),
    )


def shown(*rows: LanguageRow) -> list[list[str]]:
    console = Console(file=StringIO(), width=100, record=True)
    console.print(language_table(rows))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in console.export_text().splitlines()]


def test_every_figure_stands_in_its_column():
    cells = shown(row("permuted", 0.95, 0.125, word=0.875), row("nonsense", 0.95, None, word=None))
    minus = "\N{MINUS SIGN}"
    assert [
        "names of the types exchanged", "8", "95.0", "12.5", f"{minus}82.5 [{minus}92.5 to {minus}72.5]", "25.0", "87.5"
    ] in cells  # fmt: skip
    assert ["names that mean nothing", "8", "95.0", words.ABSENT, words.ABSENT, "25.0", words.ABSENT] in cells


def test_unknown_check_keeps_its_name():
    assert check_name(row("upper_case", 0.5, 0.5, word=0.5)) == "upper_case"
