"""Signals that ask to stop go in; they wait in a list until whoever watches over processes has time for them."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


class Inbox:
    """Stop signals that have arrived.

    Attributes:
        arrived: numbers in the order of arrival.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self.arrived: list[int] = []
        self._num_read = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remembers a signal; a handler as `signal.signal` takes it."""
        del frame
        self.arrived.append(number)

    def new(self) -> list[int]:
        """Returns what has arrived since it was last asked."""
        found = self.arrived[self._num_read :]
        self._num_read += len(found)
        return found


@contextmanager
def collecting(numbers: Sequence[int]) -> Iterator[Inbox]:
    """Collects signals for the length of a `with` block; outside the main thread none arrives."""
    inbox = Inbox()
    if threading.current_thread() is not threading.main_thread():
        yield inbox
        return
    before = {number: signal.signal(number, inbox.note) for number in numbers}
    try:
        yield inbox
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
