"""The words of a `--multirun` in; its jobs run or submitted by the chosen launcher, and an exit status out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from velm_train.cli.compose import CONFIG_NAME, check_words, conf_dir, nearest
from velm_train.cli.launch.child import EXIT_PREEMPTED, EXIT_USER_ERROR
from velm_train.cli.launch.job import quoted
from velm_train.cli.launch.overview import counted_states, overview_table, view_sweep, write_status
from velm_train.cli.launch.record import DONE, read_job
from velm_train.cli.launch.slurm_submit import require_slurm
from velm_train.cli.launch.sweep_file import SweepFile, read_sweep
from velm_train.config.launching import ProcessSettings, SlurmSettings
from velm_train.core.errors import ConfigError, ResourceError, VelmError

EXIT_FAILED = 1
_SETTINGS: dict[str, type[ProcessSettings] | type[SlurmSettings]] = {
    "hydra_plugins.velm_train.ProcessLauncher": ProcessSettings,
    "hydra_plugins.velm_train.SlurmLauncher": SlurmSettings,
}
_OF_INSTANTIATION = ("_target_", "_convert_")
_OWN_SUBDIR = "${hydra.job.num}"


def run_sweep(words: Sequence[str]) -> int:
    """Runs or submits every job of a sweep.

    Args:
        words: of the command line, without flags.

    Returns:
        0; 1 if a job failed; 2 if all did for something the user can mend; 75 if one was stopped and can go on.

    Raises:
        VelmError: for anything the user can mend before a job is started.
    """
    check_words(words)
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        app = GlobalHydra.instance().hydra
        assert app is not None
        try:
            composed = app.compose_config(CONFIG_NAME, overrides=list(words), run_mode=RunMode.MULTIRUN)
            sweep = _check(composed.hydra)
            app.multirun(CONFIG_NAME, task_function=_never, overrides=[*words, f"hydra.sweep.dir={quoted(str(sweep))}"])
        except (HydraException, OmegaConfBaseException) as error:
            if isinstance(error.__cause__, VelmError):  # raised by the constructor of a sweeper
                raise error.__cause__ from None
            raise ConfigError(_problem(error)) from error
    return conclude(sweep)


def _never(composed: DictConfig) -> None:
    raise AssertionError(f"a job of a sweep is a process of its own: {list(composed)}")


def _check(hydra: DictConfig) -> Path:
    """Checks Hydra's settings that concern a sweep; returns its folder, which holds a time and so is read once."""
    node = OmegaConf.to_container(hydra.launcher, resolve=True)
    assert isinstance(node, dict)
    target = str(node["_target_"])
    if target not in _SETTINGS:
        raise ConfigError(
            f"hydra/launcher with {target} is not possible; allowed: process, or slurm and its presets, because every "
            "job has to be a process of its own"
        )
    settings = _typed_settings(_SETTINGS[target], {k: v for k, v in node.items() if k not in _OF_INSTANTIATION})
    if isinstance(settings, SlurmSettings):
        require_slurm()
        if not str(hydra.sweeper._target_).endswith(".BasicSweeper") and not settings.wait:
            raise ConfigError(
                "hydra.launcher.wait=false is not possible with a sweeper that draws settings from results; "
                "allowed: hydra.launcher.wait=true"
            )
    subdir = str(hydra.sweep._get_node("subdir"))
    if subdir != _OWN_SUBDIR:
        raise ConfigError(f"hydra.sweep.subdir={subdir} is not possible; allowed: {_OWN_SUBDIR}, the number of the job")
    folder = Path(str(hydra.sweep.dir))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"hydra.sweep.dir={folder} cannot be made: {error.strerror}; choose another folder"
        ) from error
    return folder


def _typed_settings(kind: type[Any], values: dict[Any, Any]) -> object:
    """Checks names, types and values of a launcher's settings.

    Raises:
        ConfigError: naming the setting.
    """
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, VelmError):
            raise error.__cause__ from None
        line = str(error).strip().splitlines()[0]
        raise ConfigError(f"hydra.launcher.{error.full_key}: {line}") from error


def _problem(error: Exception) -> str:
    """Says in one line what Hydra says in several."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    first = lines[0].rstrip(".")
    if first.startswith("Could not override 'hydra.launcher."):
        key = first.split("'")[1].rsplit(".", maxsplit=1)[-1]
        known = sorted({field.name for kind in _SETTINGS.values() for field in dataclasses.fields(kind)})
        return f"{first}: the launcher chosen has no such setting{nearest(key, known)}"
    if "hydra/launcher" in first:
        options = sorted(path.stem for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"))
        wrong = first.partition("hydra/launcher/")[2].partition("'")[0]
        return f"{first}; allowed for hydra/launcher: {', '.join(options)}{nearest(wrong, options)}"
    return first


def conclude(sweep: Path) -> int:
    """Shows the table of all jobs once they have ended, writes it, and returns the exit status."""
    known = read_sweep(sweep)
    if known is None:
        return 0
    views = view_sweep(sweep, known)
    write_status(sweep, views)
    if any(view.state in {"pending", "running"} for view in views):
        return 0
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 140)
    console.print(overview_table(views, title=f"{sweep}: {counted_states(views)}"))
    return exit_status(sweep, known)


def exit_status(sweep: Path, known: SweepFile) -> int:
    """Returns the exit status of a whole sweep from the records of its jobs."""
    records = [record for job in known.jobs if (record := read_job(sweep / str(job.number))) is not None]
    failed = [record for record in records if record.state not in DONE and record.state != "preempted"]
    if failed and len(failed) == len(records) and all(one.exit_status == EXIT_USER_ERROR for one in failed):
        return EXIT_USER_ERROR
    if failed:
        return EXIT_FAILED
    return EXIT_PREEMPTED if any(record.state == "preempted" for record in records) else 0
