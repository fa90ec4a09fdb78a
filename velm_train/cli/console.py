"""What a person sees while a run works: progress bars with an estimate, one line per finished stage."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from velm_train.core.progress import Advance


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCost:
    """What one stage took.

    Attributes:
        seconds: wall time.
        peak_memory_mb: highest resident memory of the process up to the end of the stage.
    """

    title: str
    seconds: float
    peak_memory_mb: float


def peak_memory_mb() -> float:
    """Returns the highest resident memory of this process so far, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


class ConsoleProgress:
    """Draws bars on a terminal, plain lines anywhere else, and keeps each stage's cost."""

    def __init__(self, console: Console) -> None:
        """Remembers the console; nothing is drawn yet."""
        self._console = console
        self.costs: list[StageCost] = []

    def note(self, text: str) -> None:
        """Prints one line that stays."""
        self._console.print(f"[dim]{text}[/dim]", highlight=False)

    @contextmanager
    def stage(self, title: str, *, total: int) -> Iterator[Advance]:
        """Shows a bar of `total` units with the time left, then a line with what the stage took."""
        started = time.perf_counter()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            task = bars.add_task(title, total=max(total, 1))

            def advance(units: int) -> None:
                bars.advance(task, units)

            yield advance
        seconds = time.perf_counter() - started
        self.costs.append(StageCost(title=title, seconds=seconds, peak_memory_mb=peak_memory_mb()))
        self._console.print(f"{title}: {total} in {seconds:.1f} s", highlight=False)
