"""launcher.json of a sweep's folder: which jobs it has, and how they are run, so that some can be run again."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.plain import read_record

SWEEP_NAME = "launcher.json"
SWEEP_VERSION = 1

LauncherName = Literal["process", "slurm"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweptJob:
    """A job of a sweep as it was handed over.

    Attributes:
        number: within the sweep, which names its folder.
        overrides: its words.
        scheduler_job_id: SLURM's id when it was last submitted, or None.
    """

    number: int
    overrides: tuple[str, ...]
    scheduler_job_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepFile:
    """A sweep.

    Attributes:
        launcher: process or slurm.
        settings: of the launcher, as JSON text.
        program: words before a job's own.
        working_dir: what relative paths in the words begin at.
        jobs: by number.
    """

    version: int
    launcher: LauncherName
    settings: str
    program: tuple[str, ...]
    working_dir: str
    jobs: tuple[SweptJob, ...]

    def with_jobs(self, jobs: tuple[SweptJob, ...]) -> "SweepFile":
        """Returns the sweep with these jobs added, or put in the place of those with the same numbers."""
        known = {job.number: job for job in (*self.jobs, *jobs)}
        return dataclasses.replace(self, jobs=tuple(known[number] for number in sorted(known)))


def write_sweep(folder: Path, sweep: SweepFile) -> None:
    """Writes launcher.json into the folder of a sweep."""
    body = dataclasses.asdict(sweep) | {"settings": json.loads(sweep.settings)}
    write_atomic(folder / SWEEP_NAME, json.dumps(body, indent=1) + "\n")


def put_back(folder: Path, before: SweepFile | None) -> None:
    """Writes the sweep that a folder held before, or removes launcher.json if it held none."""
    if before is None:
        (folder / SWEEP_NAME).unlink()
    else:
        write_sweep(folder, before)


def read_sweep(folder: Path) -> SweepFile | None:
    """Returns the sweep of a folder, or None if it has none.

    Raises:
        ArtifactError: if the file is damaged or of another version.
    """
    path = folder / SWEEP_NAME
    try:
        body = json.loads(path.read_text())
        return read_record(SweepFile, body | {"settings": json.dumps(body["settings"])})
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, json.JSONDecodeError, DataError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; restore it, or run the sweep in a new folder") from error
