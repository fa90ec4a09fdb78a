"""What sbatch says of a job it does not take goes in; one line with the setting to change comes out."""

from velm_train.core.errors import ConfigError, ResourceError, VelmError

_REMEDIES = (
    ("invalid partition", "hydra.launcher.partition; `sinfo -s` lists the partitions"),
    ("invalid account", "hydra.launcher.account; `sacctmgr show associations user=$USER` lists yours"),
    ("invalid qos", "hydra.launcher.qos; `sacctmgr show qos` lists them"),
    ("time limit is invalid", "hydra.launcher.time_minutes; `sinfo -o '%P %l'` shows the limits"),
    ("invalid feature", "hydra.launcher.constraint; `sinfo -o '%N %f'` shows the features"),
    ("invalid generic resource", "hydra.launcher.gpus_per_node; `sinfo -o '%N %G'` shows the GPUs"),
    ("memory specification", "hydra.launcher.memory_gb; `sinfo -o '%N %m'` shows the megabytes of a node"),
    ("node count specification", "hydra.launcher.nodes; `sinfo -s` shows how many there are"),
    (
        "requested node configuration is not available",
        "hydra.launcher.cpus_per_task, gpus_per_node or memory_gb; `sinfo -o '%P %c %m %G'` shows the nodes",
    ),
    (
        "accounting/qos policy",
        "hydra.launcher.account, qos, or what it asks for: a limit of the account is reached",
    ),
    ("access/permission denied", "hydra.launcher.partition or account, which you may not use"),
    ("unrecognized option", "hydra.launcher.sbatch"),
    ("invalid option", "hydra.launcher.sbatch"),
)
_AWAY = ("unable to contact slurm controller", "connection refused", "socket timed out", "could not establish")


def submission_error(text: str) -> VelmError:
    """Returns the error for a job that sbatch did not take.

    Args:
        text: everything it printed.
    """
    plain = [_without_sender(line.strip()) for line in text.splitlines() if line.strip()]
    last = plain[-1] if plain else "no reason given"
    if any(sign in text.lower() for sign in _AWAY):
        return ResourceError(
            f"SLURM does not answer ({last}); nothing was submitted: try again later, or use hydra/launcher=process"
        )
    for sign, knob in _REMEDIES:
        told = [line for line in plain if sign in line.lower()]
        if told:
            return ConfigError(f"SLURM does not take the job: {told[-1]}; nothing was submitted: change {knob}")
    return ConfigError(f"SLURM does not take the job: {last}; nothing was submitted: change hydra.launcher.*")


def _without_sender(line: str) -> str:
    for sender in ("sbatch: ", "error: ", "fatal: ", "Batch job submission failed: "):
        line = line.removeprefix(sender)
    return line
