"""SLURM's ids in; what squeue, and sacct where there is one, say of these jobs out."""

import getpass
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
    missing = sorted(wanted - set(found))
    told = _run("sacct", "-n", "-P", "-X", "-j", ",".join(missing), "-o", "JobID,State,NodeList") if missing else None
    if told is not None:
        found |= dict(read_lines(told, wanted=wanted))
    return Queue(answered=shown is not None or told is not None, jobs=found)


def read_lines(text: str, *, wanted: set[str]) -> Iterator[tuple[str, QueuedJob]]:
    """Yields the jobs of lines such as 12_3|CANCELLED by 0|node1|None."""
    for line in text.splitlines():
        job_id, state, node, *reason = [part.strip() for part in line.split("|")]
        if job_id in wanted and state:
            why = reason[0] if reason and reason[0] not in {"None", ""} else ""
            known = "" if node == "None assigned" else node
            yield job_id, QueuedJob(state=state.split()[0].rstrip("+"), node=known, reason=why)


def _run(*words: str) -> str | None:
    """Returns what a command prints, or None if it is not there, fails or does not answer."""
    if shutil.which(words[0]) is None:
        return None
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=CLIENT_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
