"""Hydra's launchers of this program: every job of a sweep becomes a process of its own, here or on a SLURM cluster."""

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from rich.console import Console

from velm_train.cli.compose import typed
from velm_train.cli.launch.demands import check_demands
from velm_train.cli.launch.hand_over import await_end, hand_to_slurm, run_here, sole_launcher
from velm_train.cli.launch.job import Job, make_job, own_program
from velm_train.cli.launch.plan import Plan, mark_refused, plan_batch
from velm_train.cli.launch.queue import ask_slurm
from velm_train.cli.launch.slurm_submit import require_slurm
from velm_train.cli.launch.sweep_file import (
    SWEEP_VERSION,
    LauncherName,
    SweepFile,
    SweptJob,
    put_back,
    read_sweep,
    write_sweep,
)
from velm_train.config import Config
from velm_train.config.launching import ProcessSettings, SlurmSettings
from velm_train.core.errors import ConfigError, VelmError
from velm_train.core.objective import read_objective

_OWN_KEYS = ("hydra.launcher", "hydra/launcher", "hydra.sweep", "hydra/sweep", "hydra.run", "hydra.mode")
"""Settings of Hydra that concern the sweep and not its jobs; `hydra.sweeper` begins alike."""


class SweepLauncher(Launcher):
    """What both launchers share: jobs are checked, told apart from those that have run before, and handed over."""

    name: LauncherName

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes what Hydra hands over before `launch`; the task is run by the jobs' own processes."""
        del task_function
        self._loader: ConfigLoader = hydra_context.config_loader
        self._config = config
        self._console = Console()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs or submits a batch of jobs.

        What a job came to is in its folder; a job that failed raises nothing.

        Args:
            job_overrides: words of each job.
            initial_job_idx: number of the first.

        Returns:
            Per job its folder, and the value of objective.json or None.

        Raises:
            ConfigError: if no job is possible, or the folder is that of another sweep.
        """
        sweep = Path(str(self._config.hydra.sweep.dir))
        program = self._program(_words_for_jobs(self._config))
        jobs = [
            make_job(initial_job_idx + i, words, sweep=sweep, program=program, working_dir=Path.cwd())
            for i, words in enumerate(job_overrides)
        ]
        with sole_launcher(sweep):
            plan = plan_batch(jobs, problems=self._problems(jobs))
            before = read_sweep(sweep)
            noted = self._note(sweep, jobs, program)
            mark_refused(sweep, plan.refused)
            self._tell(plan)
            try:
                self._hand_over(plan.run, sweep)
            except VelmError:
                if read_sweep(sweep) == noted:  # nobody took the jobs: a folder that was no sweep does not become one
                    put_back(sweep, before)
                raise
        return [_returned(job) for job in jobs]

    @abstractmethod
    def _program(self, hydra_words: Sequence[str]) -> tuple[str, ...]:
        """Returns the words before a job's own."""

    @abstractmethod
    def _check(self, config: Config) -> None:
        """Refuses settings of a job that the launcher cannot serve."""

    @abstractmethod
    def _hand_over(self, jobs: Sequence[Job], sweep: Path) -> None:
        """Runs or submits jobs."""

    @abstractmethod
    def _settings(self) -> str:
        """Returns the launcher's settings as JSON."""

    def _problems(self, jobs: Sequence[Job]) -> dict[int, str]:
        """Composes the settings of every job; returns what is wrong with those that cannot be run."""
        problems: dict[int, str] = {}
        for job in jobs:
            composed = self._loader.load_sweep_config(self._config, list(job.overrides))
            with open_dict(composed):
                del composed["hydra"]
            try:
                self._check(typed(composed))
            except VelmError as error:
                problems[job.number] = str(error)
        return problems

    def _note(self, sweep: Path, jobs: Sequence[Job], program: tuple[str, ...]) -> SweepFile:
        """Writes launcher.json and returns what it says; jobs keep the id that SLURM gave them."""
        before = read_sweep(sweep)
        known = {} if before is None else {job.number: job.scheduler_job_id for job in before.jobs}
        noted = SweepFile(
            version=SWEEP_VERSION,
            launcher=self.name,
            settings=self._settings(),
            program=program,
            working_dir=str(Path.cwd()),
            jobs=() if before is None else before.jobs,
        )
        ids = {job.number: known[job.number] if job.number in known else None for job in jobs}
        swept = [SweptJob(number=job.number, overrides=job.overrides, scheduler_job_id=ids[job.number]) for job in jobs]
        noted = noted.with_jobs(tuple(swept))
        write_sweep(sweep, noted)
        return noted

    def _tell(self, plan: Plan) -> None:
        if plan.done:
            numbers = ", ".join(map(str, sorted(plan.done)))
            self._console.print(f"finished before, not run again: {numbers}", highlight=False)
        for number, record in plan.refused.items():
            self._console.print(f"job {number} is not possible: {record.message}", markup=False, highlight=False)


class ProcessLauncher(ProcessSettings, SweepLauncher):
    """`hydra/launcher=process`: jobs are processes of this machine."""

    name: LauncherName = "process"

    def _program(self, hydra_words: Sequence[str]) -> tuple[str, ...]:
        return own_program(hydra_words=hydra_words)

    def _check(self, config: Config) -> None:
        del config

    def _hand_over(self, jobs: Sequence[Job], sweep: Path) -> None:
        settings = ProcessSettings(max_parallel=self.max_parallel)
        run_here(jobs, sweep=sweep, settings=settings, console=self._console)

    def _settings(self) -> str:
        return json.dumps({"max_parallel": self.max_parallel})


class SlurmLauncher(SlurmSettings, SweepLauncher):
    """`hydra/launcher=slurm`: jobs are handed to SLURM."""

    name: LauncherName = "slurm"

    def _program(self, hydra_words: Sequence[str]) -> tuple[str, ...]:
        # Within a container the interpreter that submits is seldom there.
        python = self.python or (None if self.container is None else "python")
        return own_program(container=self.container or "", python=python, hydra_words=hydra_words)

    def _check(self, config: Config) -> None:
        check_demands(self._own(), config=config)

    def _hand_over(self, jobs: Sequence[Job], sweep: Path) -> None:
        require_slurm()
        waiting = self._queued(sweep, [job.number for job in jobs])
        if waiting:
            text = ", ".join(map(str, sorted(waiting)))
            self._console.print(f"in SLURM's queue already, not submitted again: {text}", highlight=False)
        fresh = [job for job in jobs if job.number not in waiting]
        if fresh:
            hand_to_slurm(fresh, sweep=sweep, settings=self._own(), console=self._console)
        if self.wait and jobs:
            numbers = [job.number for job in jobs]
            await_end(numbers, sweep=sweep, poll_seconds=self.poll_seconds, console=self._console)

    def _settings(self) -> str:
        return json.dumps(dataclasses.asdict(self._own()))

    def _own(self) -> SlurmSettings:
        return SlurmSettings(**{field.name: getattr(self, field.name) for field in dataclasses.fields(SlurmSettings)})

    def _queued(self, sweep: Path, numbers: Sequence[int]) -> set[int]:
        known = read_sweep(sweep)
        ids = {} if known is None else {job.number: job.scheduler_job_id for job in known.jobs}
        asked = {number: job_id for number, job_id in ids.items() if number in numbers and job_id is not None}
        queue = ask_slurm(list(asked.values())).jobs if asked else {}
        return {number for number, job_id in asked.items() if job_id in queue and queue[job_id].active}


def _words_for_jobs(config: DictConfig) -> tuple[str, ...]:
    """Returns Hydra's own words of the command line that concern its jobs."""
    words = [str(word) for word in config.hydra.overrides.hydra]
    return tuple(word for word in words if not word.lstrip("+~").startswith(_OWN_KEYS))


def _returned(job: Job) -> JobReturn:
    objective = read_objective(job.folder)
    returned = JobReturn(overrides=list(job.overrides), working_dir=str(job.folder), status=JobStatus.COMPLETED)
    returned.return_value = None if objective is None else objective.value
    return returned


def settings_from_json(name: LauncherName, text: str) -> ProcessSettings | SlurmSettings:
    """Reads the settings of a launcher back from launcher.json.

    Raises:
        ConfigError: if they are of another version.
    """
    values = json.loads(text)
    try:
        return ProcessSettings(**values) if name == "process" else SlurmSettings(**values)
    except TypeError as error:
        raise ConfigError(f"launcher.json is of another version ({error}); run the sweep in a new folder") from error
