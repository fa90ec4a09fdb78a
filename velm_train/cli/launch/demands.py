"""What a job asks of SLURM and how its training is spread in; nothing, or an error where both do not fit, out."""

from velm_train.config import Config
from velm_train.config.checks import require
from velm_train.config.launching import SlurmSettings


def check_demands(settings: SlurmSettings, *, config: Config) -> None:
    """Refuses tasks and GPUs that are not what the trainer will use, before anything is submitted.

    Raises:
        ConfigError: naming the setting to change.
    """
    trainer = config.trainer
    devices = trainer.devices or settings.gpus_per_node or 1  # null is as many as SLURM gives
    nodes, accelerator = trainer.num_nodes, trainer.accelerator
    require(
        settings.nodes == nodes,
        key="hydra.launcher.nodes",
        got=settings.nodes,
        allowed=f"{nodes}, as trainer.num_nodes={nodes}",
    )
    single = "1, or " if settings.nodes == 1 and devices > 1 else ""
    require(
        settings.tasks_per_node == devices or (settings.tasks_per_node == 1 and settings.nodes == 1),
        key="hydra.launcher.tasks_per_node",
        got=settings.tasks_per_node,
        allowed=f"{single}{devices}, one for each device (trainer.devices={_word(trainer.devices)})",
    )
    wanted = {"cpu": 0, "gpu": devices}
    if accelerator in wanted:
        require(
            settings.gpus_per_node == wanted[accelerator],
            key="hydra.launcher.gpus_per_node",
            got=settings.gpus_per_node,
            allowed=f"{wanted[accelerator]} with trainer.accelerator={accelerator} and trainer.devices="
            f"{_word(trainer.devices)}; hydra/launcher=slurm_cpu asks for none, trainer=gpu uses one",
        )


def _word(value: int | None) -> str:
    return "null" if value is None else str(value)
