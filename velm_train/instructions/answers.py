"""Free text back to meaning: a response and its options in, the option meant or None out; inverse of the templates."""

from collections.abc import Sequence
from dataclasses import dataclass

from velm_train.core.records import NORMAL_DEFECT_TYPE, Option
from velm_train.instructions.options import normalised

CELLS = (
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
"""The ninths of an image in row-major order."""

_SEPARATOR = ", "


@dataclass(frozen=True, kw_only=True, slots=True)
class LocatedAnswer:
    """A parsed answer to "locate, then name"; `cell` is None for "no defect", which has no place."""

    cell: str | None
    option: Option


def parse(response: str, options: Sequence[Option]) -> Option | None:
    """Returns the option that the response names, or None if it is not exactly one of them.

    Case, outer blanks and one trailing full stop do not count; any other difference does.
    """
    said = normalised(response)
    meant = [option for option in options if normalised(option.answer) == said]
    assert len(meant) <= 1, meant
    return meant[0] if meant else None


def located_answer(cell: str, option: Option) -> str:
    """Returns the answer that names a place and a type, such as "top left, scratch"."""
    assert cell in CELLS, cell
    return f"{cell}{_SEPARATOR}{option.answer}"


def parse_located(response: str, options: Sequence[Option]) -> LocatedAnswer | None:
    """Returns the place and option that a response to "locate, then name" states, or None if it does not.

    A place with "no defect" and a type without a place are unparsed.
    """
    whole = parse(response, options)
    if whole is not None:
        return LocatedAnswer(cell=None, option=whole) if whole.defect_type == NORMAL_DEFECT_TYPE else None
    cell, separator, rest = normalised(response).partition(_SEPARATOR)
    option = parse(rest, options) if separator else None
    if option is None or cell not in CELLS or option.defect_type == NORMAL_DEFECT_TYPE:
        return None
    return LocatedAnswer(cell=cell, option=option)
