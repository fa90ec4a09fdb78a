"""Error sources go in; the stacked bars and totals that the page asks about come out."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from velm_train.core.report_facts import ErrorSources, Outcome

_KINDS = {
    "right": "named right",
    "gate_miss": "missed by the gate",
    "no_defect_answered": "flagged, but “no defect” answered",
    "wrong_type": "wrong type",
    "none_of_these": "none of these",
    "unparsed": "could not be read",
}
"""Field of `ErrorSources` -> what its part of the bar is called; in the order of the bar."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorSegment:
    """One part of a bar; `kind` is its CSS class."""

    kind: str
    label: str
    number: int


class ErrorsView:
    """What the template asks about error sources."""

    ALL = "all"
    """Name of the row that adds up the others."""

    def __init__(self, errors: Sequence[ErrorSources]) -> None:
        """Remembers one entry a category."""
        self._errors = tuple(errors)

    def rows(self) -> list[ErrorSources]:
        """Returns the categories, and their sum first if they are several."""
        return [total_of(self._errors), *self._errors] if len(self._errors) > 1 else list(self._errors)

    def kinds(self) -> list[tuple[str, str]]:
        """Returns CSS class and name of every part that occurs."""
        total = total_of(self._errors)
        return [(_css_class(kind), label) for kind, label in _KINDS.items() if getattr(total, kind)]

    def segments(self, one: ErrorSources) -> list[ErrorSegment]:
        """Returns the parts of one bar that are not empty."""
        parts = [(kind, label, getattr(one, kind)) for kind, label in _KINDS.items()]
        return [
            ErrorSegment(kind=_css_class(kind), label=label, number=number) for kind, label, number in parts if number
        ]


def total_of(errors: Sequence[ErrorSources]) -> ErrorSources:
    """Returns the sum over categories."""
    names = [field.name for field in dataclasses.fields(ErrorSources) if field.name != "category"]
    return ErrorSources(category=ErrorsView.ALL, **{name: sum(getattr(one, name) for one in errors) for name in names})


def outcome_totals(errors: Sequence[ErrorSources]) -> dict[Outcome, int]:
    """Returns how many images had each outcome."""
    total = total_of(errors)
    return {
        "named right": total.right,
        "wrong name": total.wrong_type,
        "missed": total.gate_miss + total.no_defect_answered,
        "no name": total.none_of_these + total.unparsed,
        "false alarm": total.false_alarm_named + total.false_alarm_unnamed,
        "good passed": total.passed + total.cleared,
    }


def _css_class(kind: str) -> str:
    return kind.replace("_", "-")
