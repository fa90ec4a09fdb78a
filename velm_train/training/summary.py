"""The rows of a run's history go in; what the run did, in one record and in one line, comes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.training.memory import memory_words


@dataclass(frozen=True, kw_only=True, slots=True)
class FitSummary:
    """What a run did, earlier parts of a resumed run included.

    Attributes:
        num_steps: optimiser steps done.
        first_step: step at which this call began; 0 unless it continued an earlier run.
        seconds: sum over all steps.
        useful_tokens_per_second: tokens that are not padding, over all steps.
        supervised_tokens_per_second: those among them that carry loss.
        samples_per_second: over all steps.
        padding_fraction: mean over the steps, 0..1.
        data_wait_fraction: of the seconds, 0..1.
        mfu: share of the stated peak speed that useful operations took, or None without a peak.
        peak_memory_bytes: highest of all steps, or None where the system does not say.
        losses: loss of every step.
        history_path: the same and more as CSV.
    """

    num_steps: int
    first_step: int
    seconds: float
    useful_tokens_per_second: float
    supervised_tokens_per_second: float
    samples_per_second: float
    padding_fraction: float
    data_wait_fraction: float
    mfu: float | None
    peak_memory_bytes: int | None
    losses: tuple[float, ...]
    history_path: Path


def summarise(rows: Sequence[dict[str, float]], *, first_step: int, history_path: Path) -> FitSummary:
    """Returns what a run did.

    Args:
        rows: of the history, one an optimiser step.
        first_step: at which this part of the run began.
        history_path: where the rows are written.
    """
    seconds = max(sum(row["step_seconds"] for row in rows), 1e-9)

    def each_second(name: str) -> float:
        return sum(row[name] for row in rows) / seconds

    # A run that goes on may have been started with other settings or on another system.
    used = [row["mfu"] * row["step_seconds"] for row in rows if "mfu" in row]
    peaks = [row["peak_memory_bytes"] for row in rows if "peak_memory_bytes" in row]
    return FitSummary(
        num_steps=len(rows),
        first_step=first_step,
        seconds=sum(row["step_seconds"] for row in rows),
        useful_tokens_per_second=each_second("useful_tokens"),
        supervised_tokens_per_second=each_second("supervised_tokens"),
        samples_per_second=each_second("samples"),
        padding_fraction=sum(row["padding_fraction"] for row in rows) / max(1, len(rows)),
        data_wait_fraction=each_second("data_seconds"),
        mfu=sum(used) / seconds if rows and len(used) == len(rows) else None,
        peak_memory_bytes=int(max(peaks)) if peaks else None,
        losses=tuple(row["loss/total"] for row in rows),
        history_path=history_path,
    )


def summary_line(summary: FitSummary) -> str:
    """Says how fast a run was and what it took, in one line."""
    parts = [
        f"{summary.num_steps} steps in {summary.seconds:.1f} s",
        f"{summary.samples_per_second:.3g} samples/s",
        f"{summary.useful_tokens_per_second:,.0f} useful tokens/s (all that are not padding)",
        f"{summary.supervised_tokens_per_second:.3g} supervised tokens/s",
        f"{summary.padding_fraction:.1%} padding",
        f"{summary.data_wait_fraction:.1%} waiting for data",
    ]
    if summary.mfu is not None:
        parts.append(f"{summary.mfu:.1%} of the stated peak (MFU, 4N rule)")
    if summary.peak_memory_bytes is not None:
        parts.append(f"peak memory {memory_words(summary.peak_memory_bytes)}")
    return ", ".join(parts)
