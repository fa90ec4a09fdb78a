"""Runs a small sweep and says how many seconds lie between submitting a job and its first optimiser step.

    python experiments/benchmarks/sweep_overhead.py --launchers process slurm_cpu --jobs 3

The embedded experiment in its smallest form is trained once, so that data, detections and features are there; then
each launcher runs sweeps of one job that differ in their LoRA rank. What is left is the price of a job: its way through
the launcher, imports, and reading finished stages.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

from velm_train.cli.launch.record import read_job
from velm_train.reporting.manifest import describe_machine

FIRST_RANK = 2
POLL_SECONDS = 0.02
LEGS = ("command given", "submitted", "process started", "settings composed", "libraries imported", "first step")
"""What is watched for; the last is the first row of the history in the adapter's folder."""

SETTINGS = {
    "process": (),
    "slurm_cpu": ("hydra.launcher.wait=true", "hydra.launcher.poll_seconds=0.5"),
}


def command(scratch: Path, *words: str) -> list[str]:
    """Returns the command of a training in its smallest form."""
    fixed = ("task=train", "debug=fast", "logger=none", "threads=1")
    places = (f"paths.artifacts={scratch / 'artifacts'}", f"paths.outputs={scratch / 'runs'}")
    return [sys.executable, "-m", "velm_train", *fixed, *places, *words]


def run_job(launcher: str, rank: int, *, scratch: Path) -> dict[str, float]:
    """Runs a sweep of one job; returns the time at which each leg ended, in seconds since the command was given."""
    sweep = scratch / f"{launcher}_{rank}"
    words = (f"lora.r={rank}", f"hydra/launcher={launcher}", f"hydra.sweep.dir={sweep}", *SETTINGS[launcher])
    seen: dict[str, float] = {LEGS[0]: time.time()}
    with (scratch / f"{sweep.name}.log").open("w") as log:
        process = subprocess.Popen([*command(scratch, *words), "--multirun"], stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            note(seen, sweep / "0", histories=scratch / "artifacts" / "adapters")
            time.sleep(POLL_SECONDS)
    if process.returncode != 0 or len(seen) < len(LEGS):
        raise SystemExit(f"{sweep.name}: exit status {process.returncode}, seen {seen}\n{Path(log.name).read_text()}")
    return seen


def note(seen: dict[str, float], folder: Path, *, histories: Path) -> None:
    """Notes the time of what has happened to a job since the last look."""
    record = read_job(folder)
    if record is None:
        return
    now = time.time()
    seen.setdefault("submitted", now)
    if record.state != "pending":
        seen.setdefault("process started", now)
    for leg, name in (("settings composed", ".hydra/overrides.yaml"), ("libraries imported", "config.yaml")):
        if (folder / name).exists():
            seen.setdefault(leg, now)
    if "libraries imported" in seen and any(at > seen["libraries imported"] for at in times_of(histories)):
        seen.setdefault("first step", now)


def times_of(histories: Path) -> Iterator[float]:
    """Yields when each training wrote its history last."""
    for path in (*histories.glob("*/history.csv"), *histories.glob(".*/history.csv")):
        try:
            yield path.stat().st_mtime
        except FileNotFoundError:  # renamed since it was listed
            continue


def show(results: dict[str, list[dict[str, float]]]) -> None:
    """Prints the seconds of each leg, averaged over jobs, and all of them together."""
    machine = describe_machine([])
    title = f"seconds until the first step of a job; {machine.cpu}, {machine.num_cores} cores"
    table = Table(title=title, title_justify="left")
    table.add_column("launcher")
    for leg in (*LEGS[1:], "together", "jobs"):
        table.add_column(leg, justify="right")
    for launcher, jobs in results.items():
        legs = [mean(job[after] - job[before] for job in jobs) for before, after in pairwise(LEGS)]
        cells = [*legs, sum(legs)]
        table.add_row(launcher, *(f"{seconds:.1f}" for seconds in cells), str(len(jobs)))
    Console(width=140).print(table)


def main() -> None:
    """Measures each launcher."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launchers", nargs="+", choices=sorted(SETTINGS), default=["process"])
    parser.add_argument("--jobs", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        subprocess.run(command(scratch, f"lora.r={FIRST_RANK}"), check=True, stdout=subprocess.DEVNULL)
        results = {}
        for place, launcher in enumerate(chosen.launchers):
            first = FIRST_RANK + 1 + place * chosen.jobs
            ranks = range(first, first + chosen.jobs)
            results[launcher] = [run_job(launcher, rank, scratch=scratch) for rank in ranks]
    show(results)


if __name__ == "__main__":
    main()
