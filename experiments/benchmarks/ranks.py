"""How much sooner two processes are done than one, stage by stage, with the embedded model on one thread each.

    python experiments/benchmarks/ranks.py [STEPS] [FOLDER]

Both see the same samples a step: one process in two passes, two processes in one each. Efficiency is the speed-up
divided by the number of processes. Steps are timed after the first two; the wall time of the whole command includes
starting the processes.
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

STAGES = ("detect", "encode views", "align", "tune", "ask the tuned model", "ask the control rows")
SHARED = ("tune", "ask the tuned model", "ask the control rows")
WARM_UP = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One whole command.

    Attributes:
        stages: name -> wall seconds, as the first process measures them.
        samples_per_second: of training, median over the steps, all processes together.
        wall_seconds: of the command.
    """

    stages: dict[str, float]
    samples_per_second: float
    wall_seconds: float


def measure(folder: Path, words: tuple[str, ...], *, steps: int) -> Measured:
    """Runs the whole road on empty folders."""
    common = (
        "logger=none",
        "alignment.max_steps=20",
        f"trainer.max_steps={steps}",
        "evaluation.language_checks=[]",
        "evaluation.baselines=[image_blind]",
        f"hydra.run.dir={folder / 'run'}",
        f"paths.artifacts={folder / 'artifacts'}",
    )
    began = time.perf_counter()
    command = [sys.executable, "-m", "velm_train", *common, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_seconds = time.perf_counter() - began
    results = json.loads((folder / "run" / "results.json").read_text())
    (history,) = (folder / "artifacts" / "adapters").glob("*/history.csv")
    rows = list(csv.DictReader(history.open()))[WARM_UP:]
    return Measured(
        stages={stage["stage"]: stage["wall_seconds"] for stage in results["manifest"]["stages"]},
        samples_per_second=statistics.median(float(row["samples"]) / float(row["step_seconds"]) for row in rows),
        wall_seconds=wall_seconds,
    )


def main() -> None:
    """Measures both and prints a table."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
    one = measure(
        folder / "one", ("trainer=cpu", "trainer.batch_size=4", "trainer.accumulate=2", "threads=1"), steps=steps
    )
    two = measure(folder / "two", ("trainer=ddp_sim", "threads=2"), steps=steps)
    table = Table(title=f"one process and two, {steps} steps of 8 samples, one thread a process")
    for name in ("", "one", "two", "speed-up", "efficiency"):
        table.add_column(name, justify="left" if not name else "right")
    rate = two.samples_per_second / one.samples_per_second
    table.add_row(
        "training, samples/s",
        f"{one.samples_per_second:.2f}",
        f"{two.samples_per_second:.2f}",
        f"{rate:.2f}",
        f"{rate / 2:.0%}",
    )
    for name in STAGES:
        before, after = one.stages[name], two.stages[name]
        done_by = (f"{before / after:.2f}", f"{before / after / 2:.0%}") if name in SHARED else ("by one alone", "")
        table.add_row(f"{name}, s", f"{before:.1f}", f"{after:.1f}", *done_by)
    whole = one.wall_seconds / two.wall_seconds
    table.add_row(
        "the whole command, s", f"{one.wall_seconds:.1f}", f"{two.wall_seconds:.1f}", f"{whole:.2f}", f"{whole / 2:.0%}"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
