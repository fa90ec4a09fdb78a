"""Signals that end a job go in; one exception, which nothing swallows that lets Ctrl-C through, comes out."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PREEMPTION_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
"""What schedulers send before they take a machine away; submitit sends the second."""

STOP_SIGNALS = (signal.SIGINT, *PREEMPTION_SIGNALS)
"""Every signal that asks a run to stop."""


class Preempted(KeyboardInterrupt):
    """A scheduler asked the run to end; a kind of Ctrl-C, so that whatever tidies up after one does after both.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        """Remembers the signal."""
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def preemption_raised() -> Iterator[None]:
    """Raises `Preempted` when a preemption signal arrives in a `with` block; outside the main thread does nothing.

    It is raised once. From then on these signals are ignored, behind the block as well: what follows the first one
    would only disturb the tidying up, and change the exit status.

    Raises:
        Preempted: at the first signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        arrived.append(number)
        for other in PREEMPTION_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Preempted(number)

    before = {number: signal.signal(number, stop) for number in PREEMPTION_SIGNALS}
    try:
        yield
    finally:
        if not arrived:
            for number, handler in before.items():
                signal.signal(number, handler)
