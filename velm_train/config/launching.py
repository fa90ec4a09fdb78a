"""Settings for where the jobs of a sweep run: `hydra/launcher=process` and `hydra/launcher=slurm`."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, require


@dataclass(kw_only=True)
class ProcessSettings:
    """Jobs are processes of this machine.

    Attributes:
        max_parallel: jobs at a time, 1 or more; they share the machine, so `threads` times this should not exceed its
            cores.
    """

    max_parallel: int

    def __post_init__(self) -> None:
        """Checks the values."""
        at_least("hydra.launcher.max_parallel", self.max_parallel, 1, "job")


@dataclass(kw_only=True)
class SlurmSettings:
    """Jobs are handed to SLURM, a sweep as an array.

    Attributes:
        account: who is charged; null for the user's default.
        partition: queue; null for the cluster's default.
        qos: quality of service; null for the default.
        constraint: features that a node must have; null for none.
        time_minutes: limit of one attempt, 1 or more; a job that was warned and has saved goes on in another attempt.
        memory_gb: of each node, above 0.
        cpus_per_task: cores, 1 or more.
        gpus_per_node: 0 or more.
        nodes: of one job, 1 or more.
        tasks_per_node: processes that SLURM starts on each node, 1 or more: 1, or one for each device.
        signal_seconds: how long before the end of the limit the job is warned, 1 or more; saving has to fit in.
        max_requeues: most attempts after the first, 0 or more: after a warning, a preemption or a node failure.
        array_parallelism: most jobs of a sweep that run at a time, 1 or more.
        setup_lines: shell lines before the job, such as `module load cuda`.
        container: words before the job's own command, such as `apptainer exec --nv image.sif`; null for none.
        python: interpreter of the job; null for the one that submits.
        srun_args: more words for srun.
        sbatch: more options of sbatch, by name without dashes: a value, or true for an option without one.
        wait: whether the command stays until all jobs have ended; searches need it.
        poll_seconds: how often a command that stays looks at the jobs, above 0.
    """

    account: str | None
    partition: str | None
    qos: str | None
    constraint: str | None
    time_minutes: int
    memory_gb: float
    cpus_per_task: int
    gpus_per_node: int
    nodes: int
    tasks_per_node: int
    signal_seconds: int
    max_requeues: int
    array_parallelism: int
    setup_lines: list[str]
    container: str | None
    python: str | None
    srun_args: list[str]
    sbatch: dict[str, str | int | bool]
    wait: bool
    poll_seconds: float

    def __post_init__(self) -> None:
        """Checks the values."""
        at_least("hydra.launcher.time_minutes", self.time_minutes, 1, "minute")
        for name in ("cpus_per_task", "nodes", "tasks_per_node", "signal_seconds", "array_parallelism"):
            at_least(f"hydra.launcher.{name}", getattr(self, name), 1)
        for name in ("gpus_per_node", "max_requeues"):
            at_least(f"hydra.launcher.{name}", getattr(self, name), 0)
        for name in ("memory_gb", "poll_seconds"):
            value = getattr(self, name)
            require(0 < value < float("inf"), key=f"hydra.launcher.{name}", got=value, allowed="above 0")
        require(
            self.signal_seconds < 60 * self.time_minutes,
            key="hydra.launcher.signal_seconds",
            got=self.signal_seconds,
            allowed=f"fewer than the {60 * self.time_minutes} seconds of hydra.launcher.time_minutes",
        )
        dashed = sorted(name for name in self.sbatch if name.startswith("-"))
        require(not dashed, key="hydra.launcher.sbatch", got=dashed, allowed="names without leading dashes")
