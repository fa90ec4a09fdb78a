"""What is to be logged to W&B goes in; a thread of its own does it, so that nothing W&B does can stop a run.

Every call into the library is made by one thread, in order. A run neither waits for it nor hears of its errors: they
are noted once, and what is logged stays in the run folder besides.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Literal

import wandb

logger = logging.getLogger(__name__)

WandbMode = Literal["offline", "online", "disabled"]
Run = Any
"""`wandb.Run`, whose types are not checked here."""

Action = Callable[[Run], object]

SPARE_SECONDS = 5.0
"""For W&B to give up by itself, and say why, before it is given up."""

HURRIED_SECONDS = 5.0
"""What a run that is preempted can spare: the scheduler kills it soon."""


class WandbWorker:
    """The thread that talks to W&B, and the queue of what it is to say."""

    def __init__(self, opening: Callable[[WandbMode], Run], *, mode: WandbMode, timeout_s: float) -> None:
        """Opens the run, in the thread, offline if it cannot be done online.

        Args:
            opening: mode -> open run.
            mode: online or offline.
            timeout_s: most seconds for opening the run, and for finishing it.
        """
        self.problem: str | None = None
        self._opening = opening
        self._mode = mode
        self._timeout_s = timeout_s
        self._actions: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._run: Run = None
        self._is_open = threading.Event()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def submit(self, action: Action) -> None:
        """Has something done with the run, at some time, if there is one."""
        self._actions.put(action)

    def close(self, *, failed: bool, hurried: bool) -> None:
        """Finishes the run and waits for it, but not for ever, and hardly if the process has to go."""
        self.submit(lambda run: _finish(run, failed=failed))
        self._actions.put(None)
        patience_s = HURRIED_SECONDS if hurried else self._timeout_s + SPARE_SECONDS
        # A run that could not be opened online is only then opened offline.
        self._is_open.wait(patience_s if hurried else 2 * patience_s)
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._note(f"no answer within {patience_s:g} s")

    def _work(self) -> None:
        self._run = self._opened()
        self._is_open.set()
        while (action := self._actions.get()) is not None:
            if self._run is not None:
                self._guarded(action, self._run)

    def _opened(self) -> Run:
        modes: tuple[WandbMode, ...] = ("online", "offline") if self._mode == "online" else ("offline",)
        for mode in modes:
            run = self._guarded(self._opening, mode)
            if run is not None:
                return run
        return None

    def _guarded(self, action: Callable[[Any], object], argument: object) -> Run:
        """Returns what a call gives, or None if it fails."""
        try:
            return action(argument)
        except Exception as error:  # noqa: BLE001 - whatever the library raises, the run goes on
            self._note(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
            return None

    def _note(self, problem: str) -> None:
        if self.problem is not None:
            logger.info("W&B: %s", problem)
            return
        self.problem = problem
        logger.warning("W&B: %s; the run goes on, its own files are complete", problem)


def _finish(run: Run, *, failed: bool) -> None:
    """Finishes a run; if W&B's own process is gone, nothing asks for it once more when this one ends."""
    try:
        run.finish(exit_code=int(failed))
    except Exception:
        with contextlib.suppress(Exception):
            wandb.teardown()
        raise
