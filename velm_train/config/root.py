"""The whole configuration, and the checks that no single group can make."""

from dataclasses import dataclass

from velm_train.config.audit import AuditConfig
from velm_train.config.checks import at_least, require
from velm_train.config.data import DatasetConfig, PathsConfig, SynthesisConfig, TaskConfig
from velm_train.config.defects import DefectsConfig
from velm_train.config.detectors import DetectorConfig
from velm_train.config.learning import AlignmentConfig, CallbacksConfig, EvaluationConfig, LoggerConfig, TrainerConfig
from velm_train.config.naming import InstructionsConfig, LookTwiceConfig, LoraConfig, ModelConfig
from velm_train.config.protocol import ProtocolConfig
from velm_train.config.seeing import GateConfig, RegionsConfig


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
    defects: DefectsConfig
    protocol: ProtocolConfig
    audit: AuditConfig
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
        require(bool(self.name), key="name", got="''", allowed="a name")
        at_least("seed", self.seed, 0)
        at_least("threads", self.threads, 0)
        if self.dataset.synthesis is not None:
            self._check_shots(self.dataset.synthesis)
        self._check_references()
        self._check_something_to_learn()

    def _check_shots(self, synthesis: SynthesisConfig) -> None:
        """Training defects show pieces of the training side, all others pieces of the test side."""
        num_test = synthesis.defects_seen // 2
        num_train = synthesis.defects_seen - num_test
        require(
            self.protocol.k_shot <= num_train,
            key="protocol.k_shot",
            got=self.protocol.k_shot,
            allowed=f"{num_train} or fewer: dataset.synthesis.defects_seen={synthesis.defects_seen}, half of them "
            "(rounded up) of training pieces",
        )
        require(
            self.protocol.validation_per_type < num_test,
            key="protocol.validation_per_type",
            got=self.protocol.validation_per_type,
            allowed=f"{num_test - 1} or fewer: of dataset.synthesis.defects_seen={synthesis.defects_seen}, {num_test} "
            "are of test pieces, and at least 1 is for the test",
        )

    def _check_references(self) -> None:
        """Evaluation asks name_type whatever its share of the training samples is."""
        shown = [name for name, task in self.instructions.tasks.items() if task.weight > 0 or name == "name_type"]
        require(
            self.protocol.reference_normals > 0
            or not any("reference" in self.instructions.tasks[name].views for name in shown),
            key="protocol.reference_normals",
            got=self.protocol.reference_normals,
            allowed="1 or more, because a task shows a reference view",
        )

    def _check_something_to_learn(self) -> None:
        """The embedded model's projector starts from noise: before training it names nothing."""
        require(
            self.protocol.name != "zero_shot" or self.task.name not in {"run", "train", "instruct"},
            key="task.name",
            got=self.task.name,
            allowed="detect, audit or preview with protocol=zero_shot, which trains on no defect, while the embedded "
            "model has to be trained before it can name one",
        )
