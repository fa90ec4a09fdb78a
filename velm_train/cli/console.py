"""What a person sees while a run works: progress bars with an estimate, one line per finished stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from velm_train.core.progress import Advance


class ConsoleProgress:
    """Draws bars on a terminal, plain lines anywhere else."""

    def __init__(self, console: Console) -> None:
        """Remembers the console; nothing is drawn yet."""
        self._console = console
        self._open: tuple[Progress, TaskID] | None = None

    def status(self, text: str) -> None:
        """Shows a text behind the open bar; nothing where no bar is drawn."""
        if self._open is not None:
            bars, task = self._open
            bars.update(task, status=text)

    def note(self, text: str) -> None:
        """Prints one line that stays."""
        self._console.print(text, style="dim", markup=False, highlight=False)

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
            TextColumn("{task.fields[status]}", style="dim", markup=False),
        )
        around = self._open
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            task = bars.add_task(title, total=max(total, 1), status="")
            self._open = (bars, task)

            done = 0

            def advance(units: int) -> None:
                nonlocal done
                done += units
                bars.advance(task, units)

            try:
                yield advance
            finally:
                self._open = around
        seconds = time.perf_counter() - started
        # A training that was asked to stop closes its stage early.
        units = f"{done} of {total}" if 0 < done < total else f"{total}"
        self._console.print(f"{title}: {units} in {seconds:.1f} s", highlight=False)
