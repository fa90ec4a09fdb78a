"""The whole configuration, and the checks that no single group can make."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, require
from velm_train.config.data import DatasetConfig, PathsConfig, ProtocolConfig, TaskConfig
from velm_train.config.learning import AlignmentConfig, CallbacksConfig, EvaluationConfig, LoggerConfig, TrainerConfig
from velm_train.config.naming import InstructionsConfig, LookTwiceConfig, LoraConfig, ModelConfig
from velm_train.config.seeing import DetectorConfig, GateConfig, RegionsConfig


@dataclass(kw_only=True, slots=True)
class Config:
    """Everything a run depends on.

    Attributes:
        name: of the experiment; names the run folder.
        seed: root of every random draw; 0 is a seed.
        threads: CPU threads for torch, 0 to leave torch's own choice.
    """

    name: str
    seed: int
    threads: int
    task: TaskConfig
    paths: PathsConfig
    dataset: DatasetConfig
    protocol: ProtocolConfig
    detector: DetectorConfig
    gate: GateConfig
    regions: RegionsConfig
    instructions: InstructionsConfig
    model: ModelConfig
    look_twice: LookTwiceConfig
    lora: LoraConfig
    alignment: AlignmentConfig
    trainer: TrainerConfig
    evaluation: EvaluationConfig
    logger: LoggerConfig
    callbacks: CallbacksConfig

    def __post_init__(self) -> None:
        """Checks what no single group can."""
        at_least("seed", self.seed, 0)
        at_least("threads", self.threads, 0)
        if self.dataset.synthesis is not None:
            half = self.dataset.synthesis.defects_seen // 2
            needed = self.protocol.k_shot + self.protocol.validation_per_type
            require(
                needed <= half,
                key="protocol.k_shot + protocol.validation_per_type",
                got=needed,
                allowed=f"{half} or fewer: half of dataset.synthesis.defects_seen comes from the training part",
            )
        uses_reference = any(task.weight > 0 and "reference" in task.views for task in self.instructions.tasks.values())
        require(
            not uses_reference or self.protocol.reference_normals > 0,
            key="protocol.reference_normals",
            got=self.protocol.reference_normals,
            allowed="1 or more, because a task shows a reference view",
        )
