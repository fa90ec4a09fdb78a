"""Ending a run of a sweep early: who is told the loss and decides, and what is raised then."""

from typing import Protocol, runtime_checkable


class TrialPruned(Exception):  # noqa: N818 - nothing went wrong
    """Training was ended early because the run is not worth going on with; no error."""


@runtime_checkable
class PruneRule(Protocol):
    """Who is told the loss, and decides."""

    def prunes(self, loss: float, *, step: int, max_steps: int) -> bool:
        """Notes the loss after an optimiser step; True if the run should end here."""
