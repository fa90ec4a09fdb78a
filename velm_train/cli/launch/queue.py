"""SLURM's ids in; what squeue, and sacct where there is one, say of these jobs out."""

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CLIENT_SECONDS = 30
ACTIVE = frozenset(
    {
        "PENDING",
        "RUNNING",
        "COMPLETING",
        "CONFIGURING",
        "SUSPENDED",
        "REQUEUED",
        "REQUEUE_HOLD",
        "STAGE_OUT",
        "SIGNALING",
    }
)
"""States of jobs that will still do something."""

_SEVERAL = re.compile(r"(?P<array>\d+)_\[(?P<spans>\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)(?:%\d+)?\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuedJob:
    """What SLURM says of a job.

    Attributes:
        state: such as RUNNING, without what may stand behind it.
        node: or "" before it has one.
        reason: why it waits, or "".
    """

    state: str
    node: str
    reason: str

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE

    @property
    def running(self) -> bool:
        """Whether it runs; for a moment SLURM says that it is sending it a signal instead."""
        return self.state in {"RUNNING", "SIGNALING"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """What SLURM says of a sweep.

    Attributes:
        answered: whether anything could be asked; if not, nothing is known of any job.
        jobs: SLURM's id -> what is known of it; a job that is long gone is missing.
    """

    answered: bool
    jobs: dict[str, QueuedJob]


def ask_slurm(job_ids: Sequence[str]) -> Queue:
    """Asks squeue for what waits, runs or has ended lately, and sacct for the rest.

    Args:
        job_ids: such as 12 or 12_3.
    """
    wanted = set(job_ids)
    shown = _run("squeue", "-h", "-r", "-t", "all", "-u", getpass.getuser(), "-o", "%i|%T|%N|%r")
    found = {} if shown is None else dict(read_lines(shown, wanted=wanted))
    missing = wanted - set(found)
    # sacct keeps elements of an array that never started in one line, which it shows if the whole array is asked for.
    whole = sorted({job_id.partition("_")[0] for job_id in missing})
    told = _run("sacct", "-n", "-P", "-X", "-j", ",".join(whole), "-o", "JobID,State,NodeList") if missing else None
    if told is not None:
        found |= dict(read_lines(told, wanted=missing))
    return Queue(answered=shown is not None or told is not None, jobs=found)


def read_lines(text: str, *, wanted: set[str]) -> Iterator[tuple[str, QueuedJob]]:
    """Yields the jobs of lines such as 12_3|CANCELLED by 0|node1|None.

    A job of an array that has a line of its own comes behind lines of several, which it may be on as well.
    """
    rows = [[part.strip() for part in line.split("|")] for line in text.splitlines()]
    for job_id, state, node, *reason in sorted(rows, key=lambda row: _precision(row[0])):
        why = reason[0] if reason and reason[0] not in {"None", ""} else ""
        known = "" if node == "None assigned" else node
        for one in _jobs_of(job_id, wanted):
            if state:
                yield one, QueuedJob(state=state.split()[0].rstrip("+"), node=known, reason=why)


def _precision(job_id: str) -> int:
    """Returns 0 for a whole array, or a job of none, 1 for several elements of one, 2 for one element."""
    return 0 if "_" not in job_id else 1 if "[" in job_id else 2


def _jobs_of(job_id: str, wanted: set[str]) -> list[str]:
    """Returns the wanted jobs that an id stands for.

    12_[2-4,7%2] is 12_2, 12_3, 12_4 and 12_7, two at a time; 12 is all of an array, where sacct has lost the numbers of
    those that were cancelled before they began.
    """
    found = _SEVERAL.fullmatch(job_id)
    if found is not None:
        spans = [span.partition("-") for span in found["spans"].split(",")]
        numbers = [n for first, _, last in spans for n in range(int(first), int(last or first) + 1)]
        return sorted({f"{found['array']}_{number}" for number in numbers} & wanted)
    return [one for one in sorted(wanted) if one == job_id or one.startswith(f"{job_id}_")]


def _run(*words: str) -> str | None:
    """Returns what a command prints, or None if it is not there, fails or does not answer."""
    if shutil.which(words[0]) is None:
        return None
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=CLIENT_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
