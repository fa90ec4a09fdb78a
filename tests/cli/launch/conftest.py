"""A SLURM of this machine, jobs that count, and tools to wait for what happens to them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from velm_train.cli.launch.hand_over import hand_to_slurm
from velm_train.cli.launch.job import Job, make_job
from velm_train.cli.launch.launchers import settings_from_json
from velm_train.cli.launch.overview import JobView, view_sweep
from velm_train.cli.launch.record import JobRecord, read_job
from velm_train.cli.launch.sweep_file import SWEEP_VERSION, SweepFile, SweptJob, read_sweep, write_sweep
from velm_train.config.launching import SlurmSettings

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PROGRAM = (sys.executable, str(HERE / "tiny_job.py"))
START_SCRIPT = ROOT / "tests" / "slurm" / "start_slurm.sh"
LONGEST_SECONDS = 120


def client(*words: str) -> str:
    """Runs a command of SLURM; an absent controller would let it hang."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def slurm() -> Path:
    """A controller that answers, started here if it can be; returns the script that starts one."""
    if shutil.which("sbatch") is None:
        pytest.skip("SLURM is not installed (apt-get install slurm-wlm munge)")
    answers = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False, timeout=30)
    if "is UP" not in answers.stdout:
        if os.geteuid() != 0:
            pytest.skip("no controller answers, and only root can start one")
        started = subprocess.run(["bash", START_SCRIPT], capture_output=True, text=True, check=False, timeout=120)
        assert started.returncode == 0, started.stdout + started.stderr
    return START_SCRIPT


def await_true(condition: Callable[[], object], *, what: Callable[[], object], seconds: float) -> None:
    """Waits until something has happened."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what()}"
        time.sleep(0.1)


@dataclass(frozen=True, kw_only=True)
class TinySweep:
    """A sweep of jobs that count, on SLURM."""

    folder: Path
    settings: SlurmSettings

    def submit(self, *words: Sequence[str], program: Sequence[str] = PROGRAM) -> None:
        """Submits one job for each list of words."""
        jobs = self.jobs(*words, program=program)
        swept = tuple(SweptJob(number=job.number, overrides=job.overrides, scheduler_job_id=None) for job in jobs)
        known = SweepFile(
            version=SWEEP_VERSION,
            launcher="slurm",
            settings=json.dumps(asdict(self.settings)),
            program=tuple(program),
            working_dir=str(self.folder),
            jobs=swept,
        )
        write_sweep(self.folder, known)
        hand_to_slurm(jobs, sweep=self.folder, settings=self.settings, console=Console(quiet=True))

    def jobs(self, *words: Sequence[str], program: Sequence[str] = PROGRAM) -> list[Job]:
        return [
            make_job(i, one, sweep=self.folder, program=program, working_dir=self.folder) for i, one in enumerate(words)
        ]

    @property
    def sweep(self) -> SweepFile:
        sweep = read_sweep(self.folder)
        assert sweep is not None
        return sweep

    def scheduler_id(self, number: int) -> str:
        job_id = self.sweep.jobs[number].scheduler_job_id
        assert job_id is not None
        return job_id

    def record(self, number: int) -> JobRecord:
        record = read_job(self.folder / str(number))
        assert record is not None
        return record

    def view(self, number: int) -> JobView:
        return view_sweep(self.folder, self.sweep)[number]

    def log(self, number: int) -> str:
        path = self.folder / str(number) / "job.log"
        return path.read_text() if path.is_file() else ""

    def step(self, number: int) -> int:
        path = self.folder / str(number) / "step"
        text = path.read_text() if path.is_file() else ""
        return int(text) if text else 0

    def await_step(self, number: int, step: int) -> None:
        await_true(lambda: self.step(number) >= step, what=lambda: self.view(number), seconds=LONGEST_SECONDS)

    def await_state(self, number: int, state: str) -> JobView:
        await_true(lambda: self.view(number).state == state, what=lambda: self.view(number), seconds=LONGEST_SECONDS)
        return self.view(number)

    def await_note(self, number: int, note: str) -> None:
        await_true(lambda: self.view(number).note == note, what=lambda: self.view(number), seconds=LONGEST_SECONDS)

    def await_left_queue(self, number: int) -> None:
        """Waits until SLURM is done with a job."""
        job_id = self.scheduler_id(number)
        await_true(
            lambda: client("squeue", "-h", "-j", job_id, "-t", "R,PD,CG") == "",
            what=lambda: client("scontrol", "show", "job", job_id),
            seconds=LONGEST_SECONDS,
        )

    def await_text(self, path: Path, text: str) -> None:
        await_true(
            lambda: path.is_file() and text in path.read_text(), what=lambda: (path, text), seconds=LONGEST_SECONDS
        )

    def await_gone(self, job_id: str) -> None:
        """Waits until a job of somebody else has ended."""
        ended = "COMPLETED"
        await_true(
            lambda: ended in client("scontrol", "show", "job", job_id), what=lambda: job_id, seconds=LONGEST_SECONDS
        )

    def await_ended(self, number: int) -> None:
        """Waits until a job has written down its end."""
        await_true(lambda: self.record(number).ended, what=lambda: self.record(number), seconds=LONGEST_SECONDS)

    def start_now(self, number: int) -> None:
        """Spares the two minutes that a requeued job waits; a node takes it only some seconds after its end."""
        job_id = self.scheduler_id(number)
        waits = "JobState=PENDING"
        await_true(
            lambda: waits in client("scontrol", "show", "job", job_id),
            what=lambda: client("scontrol", "show", "job", job_id),
            seconds=LONGEST_SECONDS,
        )
        client("scontrol", "update", f"JobId={job_id}", "StartTime=now+3")


@pytest.fixture(scope="session")
def ask() -> Callable[..., str]:
    """Runs a command of SLURM."""
    return client


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    return await_true


@pytest.fixture(scope="session")
def tiny_program() -> tuple[str, ...]:
    """Starts a job that counts."""
    return PROGRAM


@pytest.fixture
def tiny_settings() -> SlurmSettings:
    """One core for ten minutes, warned half a minute before the end."""
    settings = settings_from_json("slurm", TINY)
    assert isinstance(settings, SlurmSettings)
    return settings


TINY = """{"account": null, "partition": null, "qos": null, "constraint": null, "time_minutes": 10, "memory_gb": 0.5,
"cpus_per_task": 1, "gpus_per_node": 0, "nodes": 1, "tasks_per_node": 1, "signal_seconds": 30, "max_requeues": 3,
"array_parallelism": 4, "setup_lines": [], "container": null, "python": null, "srun_args": [], "sbatch": {},
"wait": false, "poll_seconds": 0.5}"""


@pytest.fixture
def tiny_sweep(slurm: Path, tmp_path: Path, tiny_settings: SlurmSettings) -> Iterator[Callable[..., TinySweep]]:
    """Makes sweeps with some settings changed; what is left of them in the queue at the end is cancelled."""
    made: list[TinySweep] = []

    def make(**changes: object) -> TinySweep:
        made.append(
            TinySweep(folder=tmp_path / f"sweep{len(made)}", settings=replace(tiny_settings, **changes))  # type: ignore[arg-type]
        )
        return made[-1]

    yield make
    for sweep in made:
        known = read_sweep(sweep.folder)
        ids = [] if known is None else [job.scheduler_job_id for job in known.jobs if job.scheduler_job_id]
        if ids:
            subprocess.run(["scancel", *ids], check=False, timeout=30, capture_output=True)
