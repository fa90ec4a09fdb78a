"""The settings and what a starter left in the environment go in; which process of the run this one is comes out.

    nobody has started the others      None: this process starts and watches them (`supervisor.py`)
    the supervisor or torchrun did     RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT
    srun did                           SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NUM_TASKS, ...

A start has a name that its processes share and no earlier start of the same run had: what they tell each other lies in
a folder of that name.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from velm_train.config import Config
from velm_train.core.errors import ConfigError
from velm_train.core.meeting import ALONE, Meeting
from velm_train.core.ranks import ONLY_RANK, Rank

SHARED_TASKS = ("run", "train")
"""Tasks that several processes do together; all others are done by one."""

RANKS_FOLDER = ".ranks"
START_VARIABLE = "VELM_TRAIN_START"
"""Set by the supervisor: the name of a start."""

_GIVEN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FIRST_PORT, _NUM_PORTS = 20000, 20000


def num_devices(config: Config) -> int:
    """Returns how many devices of one machine train; where the settings leave it open, as many GPUs as there are.

    Raises:
        ConfigError: if more GPUs are asked for than there are.
    """
    trainer = config.trainer
    if trainer.accelerator == "cpu":
        return trainer.devices or 1
    import torch

    found = torch.cuda.device_count()
    if found == 0:  # what asks for a GPU says so itself, later
        return trainer.devices or 1
    if trainer.devices is not None and trainer.devices > found:
        raise ConfigError(
            f"trainer.devices={trainer.devices} is not possible: this machine has {found} "
            f"GPU{'' if found == 1 else 's'}; set trainer.devices={found} or fewer, or null for all there are"
        )
    return trainer.devices or found


def num_processes(config: Config) -> int:
    """Returns how many processes do the task."""
    if config.task.name not in SHARED_TASKS or config.trainer.strategy == "single":
        return 1
    return num_devices(config) * config.trainer.num_nodes


def rank_of_process(config: Config, environment: Mapping[str, str] = os.environ) -> Rank | None:
    """Returns this process's place in the run, or None if it has to start the processes.

    Raises:
        ConfigError: if whoever started the processes started another number of them than the settings ask for.
    """
    expected = num_processes(config)
    if all(name in environment for name in _GIVEN):
        started = int(environment["WORLD_SIZE"])
        _require_as_many(config, started=started, expected=expected, starter="torchrun")
        return ONLY_RANK if expected == 1 else _given_rank(environment, num_local=num_devices(config))
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1:
        _require_as_many(config, started=tasks, expected=expected, starter="srun")
        return _slurm_rank(environment, num_local=num_devices(config))
    if expected == 1:
        return ONLY_RANK
    if config.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={config.trainer.num_nodes} needs a starter on every machine, and this process is "
            f"alone: use srun --nodes={config.trainer.num_nodes} --ntasks-per-node={num_devices(config)}, torchrun, or "
            "--multirun hydra/launcher=slurm_multi_node; for this machine alone set trainer.num_nodes=1"
        )
    require_accelerator(config)  # or every process would be started to say so
    return None


def require_accelerator(config: Config) -> None:
    """Refuses a GPU that is not here.

    Raises:
        ConfigError: saying what to choose.
    """
    import torch

    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            "trainer.accelerator=gpu is not possible: torch finds no GPU here; choose trainer=cpu, or run "
            "`python -m velm_train task=doctor` to see what this machine has"
        )


def _require_as_many(config: Config, *, started: int, expected: int, starter: str) -> None:
    if started == expected:
        return
    trainer = config.trainer
    if config.task.name not in SHARED_TASKS or trainer.strategy == "single":
        what = f"task={config.task.name} with trainer.strategy={trainer.strategy} is done by one process"
        remedy = "start one, or choose trainer=ddp for run and train"
    else:
        devices = num_devices(config)
        what = f"trainer.num_nodes={trainer.num_nodes} x trainer.devices={devices} is {expected}"
        remedy = "start one process a device (--ntasks-per-node, --nproc-per-node), or change these settings"
    raise ConfigError(f"{starter} has started {started} processes, but {what}; {remedy}")


def _given_rank(environment: Mapping[str, str], *, num_local: int) -> Rank:
    return Rank(
        number=int(environment["RANK"]),
        world_size=int(environment["WORLD_SIZE"]),
        local_number=int(environment["LOCAL_RANK"]),
        num_local=num_local,
        address=environment["MASTER_ADDR"],
        port=int(environment["MASTER_PORT"]),
    )


def _slurm_rank(environment: Mapping[str, str], *, num_local: int) -> Rank:
    from velm_train.training.cluster import first_node

    job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
    return Rank(
        number=int(environment["SLURM_PROCID"]),
        world_size=int(environment["SLURM_STEP_NUM_TASKS"]),
        local_number=int(environment["SLURM_LOCALID"]),
        num_local=num_local,
        address=first_node(environment["SLURM_STEP_NODELIST"]),
        port=_FIRST_PORT + (10 * job + step) % _NUM_PORTS,  # the same on all, and another one for each step
    )


def start_name(environment: Mapping[str, str] = os.environ) -> str:
    """Returns the name of this start of a run of several processes.

    Raises:
        ConfigError: if torchrun was given none.
    """
    if START_VARIABLE in environment:
        return environment[START_VARIABLE]
    if "TORCHELASTIC_RUN_ID" in environment:
        run = environment["TORCHELASTIC_RUN_ID"]
        if run == "none":
            raise ConfigError(
                "torchrun gave the run no name, so that its processes cannot tell this start from an earlier one; add "
                "--standalone for one machine, or --rdzv-id=NAME"
            )
        return f"torchrun-{run}-{environment['TORCHELASTIC_RESTART_COUNT']}"
    job, step = environment["SLURM_JOB_ID"], environment["SLURM_STEP_ID"]
    return f"slurm-{job}-{step}-{environment.get('SLURM_RESTART_COUNT', '0')}"


def run_name(environment: Mapping[str, str] = os.environ) -> str:
    """Returns a folder name for a run that others started and gave none: the same for all, and after a requeue."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return f"torchrun-{environment['TORCHELASTIC_RUN_ID']}"
    return f"slurm-{environment['SLURM_JOB_ID']}-{environment['SLURM_STEP_ID']}"


def words_of_rank(config: Config, words: Sequence[str], *, composed_folder: str, rank: Rank) -> list[str]:
    """Returns what a process of several adds to its command line, so that all share one run folder.

    Args:
        config: checked settings.
        words: of its command line.
        composed_folder: run folder that Hydra would make, with the time of this very process in it.
        rank: this process.
    """
    if rank.world_size == 1:
        return []
    own = [word for word in words if word.startswith("hydra.run.dir=")]
    base = Path(composed_folder)
    if not own:
        base = Path(config.paths.outputs) / config.name / run_name()
    return [] if own and rank.is_first else [folder_word(folder_of_rank(base, rank))]


def folder_word(folder: Path) -> str:
    """Returns the override that makes Hydra use a folder, whatever characters its name has."""
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.run.dir='{quoted}'"


def folder_of_rank(run_folder: Path, rank: Rank) -> Path:
    """Returns where a process keeps its own files: the run folder is the first one's."""
    return run_folder if rank.is_first else run_folder / RANKS_FOLDER / str(rank.number)


def meeting_of(folder: Path, rank: Rank) -> Meeting:
    """Returns where the processes of this start agree.

    Args:
        folder: of this process, as `folder_of_rank` gives it.
        rank: this process.
    """
    if rank.world_size == 1:
        return ALONE
    run_folder = folder if rank.is_first else folder.parent.parent
    return Meeting(run_folder / RANKS_FOLDER / start_name(), rank)
