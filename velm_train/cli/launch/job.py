"""The number and the words of a job in; the command that runs it, and its folder, out."""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PLAIN = re.compile(r"[\w./:+-]+")
"""What Hydra's grammar takes as a value without quotes."""

PACKAGE = "velm_train"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What to run.

    Attributes:
        number: within the sweep, from 0.
        overrides: its words, without Hydra's own.
        folder: of the job, which is the folder of its run; absolute.
        command: the whole command line.
        working_dir: where it is run; absolute.
    """

    number: int
    overrides: tuple[str, ...]
    folder: Path
    command: tuple[str, ...]
    working_dir: Path


def make_job(number: int, overrides: Sequence[str], *, sweep: Path, program: Sequence[str], working_dir: Path) -> Job:
    """Returns the job that runs a program with these words in the folder of its number.

    Args:
        number: within the sweep.
        overrides: its words.
        sweep: folder of the sweep.
        program: the words before the job's own, `own_program` but for tests.
        working_dir: what relative paths in the words begin at.
    """
    folder = sweep.absolute() / str(number)
    return Job(
        number=number,
        overrides=tuple(overrides),
        folder=folder,
        command=(*program, *overrides, f"hydra.run.dir={quoted(str(folder))}"),
        working_dir=working_dir.absolute(),
    )


def own_program(*, container: str = "", python: str | None = None, hydra_words: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the words that start this program.

    Args:
        container: words before the interpreter, or "".
        python: interpreter; None for this one.
        hydra_words: Hydra's own settings that hold for every job.
    """
    return (*shlex.split(container), python or sys.executable, "-m", PACKAGE, *hydra_words)


def quoted(value: str) -> str:
    """Returns a value as Hydra's command line takes it, whatever characters it has."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
