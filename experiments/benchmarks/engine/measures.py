"""Runs in; CPU and wall seconds, memory, medians with ranges, slopes and tables out."""

import ctypes
import gc
import importlib
import logging
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from velm_train.reporting.manifest import describe_machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one run took.

    Attributes:
        cpu_seconds: of this process, which other work on the machine does not change much.
        wall_seconds: on the clock.
        losses: of every step.
    """

    cpu_seconds: float
    wall_seconds: float
    losses: Sequence[float]


def read(run: Callable[[], list[float]]) -> Reading:
    """Runs and measures."""
    cpu, wall = time.process_time(), time.perf_counter()
    losses = run()
    return Reading(cpu_seconds=time.process_time() - cpu, wall_seconds=time.perf_counter() - wall, losses=losses)


def in_turns(
    names: Sequence[str], prepare: Callable[[str], Callable[[], list[float]]], *, repeats: int
) -> dict[str, list[Reading]]:
    """Runs all systems in turns, another one first each time.

    Args:
        names: of the systems.
        prepare: name -> what is measured; what it does itself is not.
        repeats: runs of each.
    """
    readings: dict[str, list[Reading]] = {name: [] for name in names}
    for turn in range(repeats):
        first = turn % len(names)
        for name in [*names[first:], *names[:first]]:
            readings[name].append(read(prepare(name)))
            print(f"  turn {turn + 1}, {name}: {readings[name][-1].cpu_seconds:.1f} CPU s", file=sys.stderr, flush=True)
    return readings


def peak_above_start(run: Callable[[], list[float]]) -> float:
    """Returns how far the memory of this process rises above where it was, MiB; measure once a process."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before would otherwise serve the run and not be counted
    before = memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    run()
    return memory_mib("VmHWM") - before


def memory_mib(kind: str) -> float:
    """Returns the resident memory of this process, now (VmRSS) or at its peak (VmHWM), as Linux counts it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


def with_range(values: Sequence[float], *, digits: int = 3) -> str:
    """Returns the median with the lowest and the highest value."""
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]"


def ratios(reference: Sequence[Reading], runs: Sequence[Reading]) -> list[float]:
    """Returns of each turn how many times as fast a system was as the reference, in CPU seconds."""
    return [other.cpu_seconds / own.cpu_seconds for other, own in zip(reference, runs, strict=True)]


def largest_difference(losses: Mapping[str, Sequence[float]], *, reference: str) -> dict[str, float]:
    """Returns of each system the largest relative difference of a step's loss from the reference's.

    Raises:
        ValueError: if a system took another number of steps.
    """
    expected = losses[reference]
    return {
        name: max(abs(own - other) / abs(other) for own, other in zip(values, expected, strict=True))
        for name, values in losses.items()
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Returns the exponent of growth: the slope of the straight line through the logarithms."""
    logs = np.log(np.array(points, dtype=np.float64))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def memory_in_own_process(program: str, name: str, options: Sequence[str]) -> float:
    """Returns what a benchmark program prints when it is called with --memory-of, in MiB.

    Args:
        program: its file; it prints `peak_above_start` of the system as its last line.
        name: of the system.
        options: further words of the command line.
    """
    command = [sys.executable, program, "--memory-of", name, *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(finished.stdout.splitlines()[-1])


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Prints rows of equal keys under one heading."""
    texts = [list(rows[0])]
    texts += [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    widths = [max(len(text[column]) for text in texts) for column in range(len(texts[0]))]
    for text in texts:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(text, widths, strict=True)), flush=True)


def machine_words() -> str:
    """Returns the machine and how busy it is, in words."""
    machine = describe_machine(())
    load = os.getloadavg()[0]
    return f"{machine.cpu}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, float32, load {load:.1f}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silences libraries that report on every start, for the length of a `with` block."""
    importlib.import_module("transformers").utils.logging.disable_progress_bar()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
