"""How a stage reports progress without knowing who shows it; `cli` draws the bars."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

Advance = Callable[[int], None]
"""Called with the number of units finished since the last call."""


@runtime_checkable
class Progress(Protocol):
    """Receives the length of a stage and its advance."""

    def stage(self, title: str, *, total: int) -> AbstractContextManager[Advance]:
        """Opens a bar of `total` units that closes with the context."""
        ...

    def status(self, text: str) -> None:
        """Shows a short text beside the open bar until the next one, for instance how fast it goes."""
        ...

    def note(self, text: str) -> None:
        """Shows one line that stays, for instance that a finished stage is reused."""
        ...


def _count_nothing(units: int) -> None:
    del units


class SilentProgress:
    """Shows nothing; for tests and library use."""

    @contextmanager
    def stage(self, title: str, *, total: int) -> Iterator[Advance]:
        """Opens nothing and counts nothing."""
        del title, total
        yield _count_nothing

    def status(self, text: str) -> None:
        """Drops the text."""
        del text

    def note(self, text: str) -> None:
        """Drops the line."""
        del text
