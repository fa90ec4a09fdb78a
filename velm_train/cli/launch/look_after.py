"""`task=status` and `task=resubmit`: the folder of a sweep in; a table of its jobs, or new attempts of some, out."""

from pathlib import Path

from rich.console import Console

from velm_train.cli.compose import load_config
from velm_train.cli.launch.demands import check_demands
from velm_train.cli.launch.hand_over import await_end, hand_to_slurm, run_here, sole_launcher
from velm_train.cli.launch.job import PACKAGE, Job, make_job
from velm_train.cli.launch.launchers import settings_from_json
from velm_train.cli.launch.overview import (
    TO_RESUBMIT,
    JobView,
    counted_states,
    overview_table,
    view_sweep,
    write_status,
)
from velm_train.cli.launch.plan import mark_refused, plan_batch
from velm_train.cli.launch.slurm_submit import require_slurm
from velm_train.cli.launch.sweep import conclude
from velm_train.cli.launch.sweep_file import SWEEP_NAME, SweepFile, read_sweep
from velm_train.config import Config
from velm_train.config.launching import ProcessSettings, SlurmSettings
from velm_train.core.errors import ConfigError, DataError

LOOKED_AFTER = ("status", "resubmit")
"""Tasks that are done here, before anything heavy is imported."""

MIN_WIDTH = 140
_DEPTH = ("*", "*/*")
"""Where sweeps lie below `paths.outputs`: name of the experiment, then time."""


def look_after(config: Config) -> int:
    """Does `task=status` or `task=resubmit` and returns the exit status."""
    console = Console()
    if config.task.name == "resubmit":
        return resubmit(config, console)
    show_status(config, console)
    return 0


def show_status(config: Config, console: Console) -> None:
    """Prints the table of a sweep's jobs and writes it as status.json.

    Raises:
        DataError: if there is no such sweep.
        ArtifactError: if one of its files is damaged.
    """
    folder = Path(config.sweep).expanduser() if config.sweep else newest_sweep(Path(config.paths.outputs).expanduser())
    views = view_sweep(folder, _sweep_of(folder))
    write_status(folder, views)
    if not console.is_terminal:
        console.width = max(console.width, MIN_WIDTH)
    console.print(overview_table(views, title=f"{folder}: {counted_states(views)}"))
    again = to_resubmit(views)
    if again:
        console.print(
            f"python -m velm_train task=resubmit sweep={folder} goes on with: {', '.join(map(str, again))}",
            highlight=False,
            soft_wrap=True,
        )


def resubmit(config: Config, console: Console) -> int:
    """Runs the jobs of a sweep again that failed or were lost, with the launcher and settings it had.

    Returns:
        The exit status of the sweep, as `--multirun` has it.

    Raises:
        DataError: if there is no such sweep.
        ConfigError: if none is named, or SLURM does not take the jobs.
    """
    if not config.sweep:  # never a guess: jobs are started
        raise ConfigError(
            "task=resubmit needs the folder of a sweep, for example "
            "task=resubmit sweep=outputs/runs/textures/2026-01-31_12-00-00"
        )
    folder = Path(config.sweep).expanduser()
    sweep = _sweep_of(folder)
    with sole_launcher(folder):
        again = to_resubmit(view_sweep(folder, sweep))
        if not again:
            console.print(f"{folder}: no job has failed, nothing to run again", highlight=False, soft_wrap=True)
            return 0
        words = {job.number: job.overrides for job in sweep.jobs}
        base = Path(sweep.working_dir)
        jobs = [make_job(n, words[n], sweep=folder, program=sweep.program, working_dir=base) for n in again]
        settings = settings_from_json(sweep.launcher, sweep.settings)
        if PACKAGE in sweep.program:  # and no other program, whose words are not ours
            jobs = _possible(jobs, settings, folder, console)
        if not jobs:
            return conclude(folder)
        if isinstance(settings, ProcessSettings):
            run_here(jobs, sweep=folder, settings=settings, console=console)
        else:
            require_slurm()
            hand_to_slurm(jobs, sweep=folder, settings=settings, console=console)
            if settings.wait:
                numbers = [job.number for job in jobs]
                await_end(numbers, sweep=folder, poll_seconds=settings.poll_seconds, console=console)
    return conclude(folder)


def _possible(jobs: list[Job], settings: ProcessSettings | SlurmSettings, folder: Path, console: Console) -> list[Job]:
    """Returns the jobs whose settings are possible and served by the launcher, and says which are not.

    Raises:
        ConfigError: if all are impossible.
    """
    problems: dict[int, str] = {}
    for job in jobs:
        try:
            config = load_config([word for word in job.overrides if not word.lstrip("+~").startswith("hydra")])
            if isinstance(settings, SlurmSettings):
                check_demands(settings, config=config)
        except ConfigError as error:
            problems[job.number] = str(error)
    plan = plan_batch(jobs, problems=problems)
    mark_refused(folder, plan.refused)
    for number, record in plan.refused.items():
        console.print(f"job {number} is not possible: {record.message}", markup=False, highlight=False)
    return list(plan.run)


def to_resubmit(views: tuple[JobView, ...]) -> list[int]:
    """Returns the numbers of the jobs that have to be run again."""
    return [view.number for view in views if view.state in TO_RESUBMIT]


def newest_sweep(outputs: Path) -> Path:
    """Returns the sweep that was begun or added to last.

    Raises:
        DataError: if there is none.
    """
    found = [path for pattern in _DEPTH for path in outputs.glob(f"{pattern}/{SWEEP_NAME}")]
    if not found:
        raise DataError(f"no sweep lies below paths.outputs={outputs}; name one: sweep=FOLDER")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def _sweep_of(folder: Path) -> SweepFile:
    sweep = read_sweep(folder)
    if sweep is None:
        raise DataError(f"sweep={folder} is not the folder of a sweep: it has no {SWEEP_NAME}; `--multirun` writes one")
    return sweep
