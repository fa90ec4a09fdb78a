"""Jobs and what they need go in; submitit hands them to SLURM, several as an array, and their ids come out."""

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from velm_train.cli.launch.job import Job
from velm_train.cli.launch.slurm_task import WatchedJob
from velm_train.cli.launch.slurm_words import submission_error
from velm_train.config.launching import SlurmSettings
from velm_train.core.errors import ResourceError

SUBMITIT_FOLDER = ".submitit"


def require_slurm() -> None:
    """Refuses to submit where that cannot be.

    Raises:
        ResourceError: if sbatch or submitit is missing.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ResourceError(
            "no SLURM on this machine (sbatch is not there); use hydra/launcher=process, or a login node of the cluster"
        )
    if importlib.util.find_spec("submitit") is None:
        raise ResourceError("submitit is not installed; pip install -c constraints.txt -e '.[cluster]'")


def submit(jobs: Sequence[Job], *, settings: SlurmSettings, sweep: Path, name: str) -> dict[int, str]:
    """Submits jobs, more than one as an array.

    Args:
        jobs: to submit.
        settings: what each needs.
        sweep: folder of the sweep, which all nodes see.
        name: shown by squeue.

    Returns:
        number of the job -> SLURM's id.

    Raises:
        ConfigError: if SLURM does not take them, with its reason and the setting to change.
        ResourceError: if SLURM does not answer.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.helpers import clean_env

    folder = sweep.absolute() / SUBMITIT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder=folder / "%j")
    executor.update_parameters(**submission_parameters(settings, name=name))
    tasks = [WatchedJob(job=job, max_requeues=settings.max_requeues) for job in jobs]
    try:
        with clean_env(), executor.batch():
            submitted = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError) as error:
        raise submission_error(str(error)) from error
    return {job.number: one.job_id for job, one in zip(jobs, submitted, strict=True)}


def submission_parameters(settings: SlurmSettings, *, name: str) -> dict[str, Any]:
    """Returns the settings by submitit's names; what is null is left to the cluster."""
    optional: Mapping[str, str | None] = {
        "account": settings.account,
        "partition": settings.partition,
        "qos": settings.qos,
        "constraint": settings.constraint,
    }
    return {
        "job_name": name,
        "time": settings.time_minutes,
        "nodes": settings.nodes,
        "ntasks_per_node": settings.tasks_per_node,
        "cpus_per_task": settings.cpus_per_task,
        "signal_delay_s": settings.signal_seconds,
        "array_parallelism": settings.array_parallelism,
        "setup": list(settings.setup_lines),
        # Since SLURM 22.05 srun does not take over what sbatch was given.
        "srun_args": [f"--cpus-per-task={settings.cpus_per_task}", *settings.srun_args],
        # SLURM starts the job again itself when its node fails.
        "additional_parameters": {
            "mem": f"{round(settings.memory_gb * 1024)}M",
            "requeue": True,
            **{key: value for key, value in settings.sbatch.items() if value is not False},
        },
        "wckey": None,  # submitit's own, which a cluster that keeps accounts by keys would refuse
        **({"gpus_per_node": settings.gpus_per_node} if settings.gpus_per_node else {}),
        **{key: value for key, value in optional.items() if value is not None},
    }
