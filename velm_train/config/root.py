"""The whole configuration, and the checks that no single group can make."""

from dataclasses import dataclass
from typing import Any

from velm_train.config.audit import AuditConfig
from velm_train.config.checks import at_least, one_of, require
from velm_train.config.compare import CompareConfig
from velm_train.config.data import DatasetConfig, PathsConfig, SynthesisConfig, TaskConfig
from velm_train.config.defects import DefectsConfig
from velm_train.config.detectors import DetectorConfig
from velm_train.config.export import ExportConfig
from velm_train.config.keeping import CallbacksConfig, check_start
from velm_train.config.learning import AlignmentConfig, EvaluationConfig, LoggerConfig
from velm_train.config.model import EMBEDDED_LEVELS, ModelConfig
from velm_train.config.naming import InstructionsConfig, LookTwiceConfig, LoraConfig
from velm_train.config.predict import PredictConfig
from velm_train.config.protocol import ProtocolConfig
from velm_train.config.scoring import ScoreConfig
from velm_train.config.seeing import GateConfig, RegionsConfig
from velm_train.config.strategies import check_weights
from velm_train.config.trainer import TrainerConfig
from velm_train.core.objective import OBJECTIVES


@dataclass(kw_only=True, slots=True)
class Config:
    """Everything a run depends on.

    Attributes:
        name: of the experiment; names the run folder.
        rehearsal: True if it is run in its smallest form, so that no figure means anything; debug=fast sets it.
        seed: root of every random draw; 0 is a seed.
        threads: CPU threads for torch, 0 to leave torch's own choice.
        objective: the figure that a sweep optimises: end-to-end balanced recall over all test images, or over those of
            the categories that training saw (seen) or did not (unseen).
        runs: what task=compare compares: run folders, folders of runs or sweeps, folders of W&B runs; else empty.
        sweep: folder of the sweep that task=status shows, null for the newest below paths.outputs, or that
            task=resubmit goes on with; else null.
        predictions: the file that task=score scores; else null.
        ckpt: folder of the finished run that task=predict judges new pictures with, or task=export exports; else null.
        ckpt_path: where training begins: auto for the newest checkpoint of this very training, none for the first step,
            best for the checkpoint of the lowest validation loss, or a checkpoint, a folder of them, or a run's folder.
        input: what task=predict judges: a picture, a folder, a glob, a list of these, or - for paths from stdin.
        category: what the pictures of task=predict show; null for the names of their folders.
    """

    name: str
    rehearsal: bool
    seed: int
    threads: int
    objective: str
    runs: list[str]
    sweep: str | None
    predictions: str | None
    ckpt: str | None
    ckpt_path: str
    input: Any
    category: str | None
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
    compare: CompareConfig
    score: ScoreConfig
    predict: PredictConfig
    export: ExportConfig
    logger: LoggerConfig
    callbacks: CallbacksConfig

    def __post_init__(self) -> None:
        """Checks what no single group can."""
        require(bool(self.name), key="name", got="''", allowed="a name")
        at_least("seed", self.seed, 0)
        at_least("threads", self.threads, 0)
        one_of("objective", self.objective, OBJECTIVES)
        if self.dataset.synthesis is not None:
            self._check_shots(self.dataset.synthesis)
        self._check_references()
        self._check_something_to_learn()
        self._check_levels()
        self._check_quantisation()
        check_weights(self.trainer.strategy, quantisation=self.lora.quantisation, variant=self.lora.variant)
        self._check_runs()
        self._check_sweep()
        self._check_predictions()
        self._check_new_pictures()
        check_start(
            self.ckpt_path,
            task=self.task.name,
            validation_share=self.trainer.validation_share,
            callbacks=self.callbacks,
        )

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
            allowed=f"{'0' if num_test == 1 else f'{num_test - 1} or fewer'}: half of dataset.synthesis.defects_seen="
            f"{synthesis.defects_seen} (rounded down: {num_test}) are of test pieces, and at least 1 is for the test; "
            "a larger dataset.synthesis.defects_seen allows more",
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

    def _check_quantisation(self) -> None:
        """Float16 alone would round what the quantised layers compute in the model's own type."""
        require(
            self.lora.quantisation == "none" or self.trainer.precision != "16-mixed",
            key="trainer.precision",
            got=self.trainer.precision,
            allowed=f"32-true or bf16-mixed with lora.quantisation={self.lora.quantisation}",
        )

    def _check_something_to_learn(self) -> None:
        """A run trains before it asks; the embedded model, whose projector starts from noise, could not but."""
        require(
            self.protocol.name != "zero_shot" or self.task.name not in {"run", "train", "instruct"},
            key="task.name",
            got=self.task.name,
            allowed="detect, audit or preview with protocol=zero_shot, which has no defect to train on",
        )

    def _check_levels(self) -> None:
        """How many blocks another family's tower has is known once its checkpoint is read."""
        levels = self.look_twice.levels
        require(
            self.model.embedded is None or levels is None or set(levels) <= set(EMBEDDED_LEVELS),
            key="look_twice.levels",
            got=levels,
            allowed=f"some of {', '.join(map(str, EMBEDDED_LEVELS))} for model=embedded, or null",
        )

    def _check_runs(self) -> None:
        """Only a comparison takes finished runs, and it takes nothing else."""
        comparing = self.task.name == "compare"
        require(
            comparing == bool(self.runs),
            key="runs",
            got=self.runs,
            allowed="folders of finished runs, for example 'runs=[outputs/a,outputs/b]'"
            if comparing
            else "[] unless task=compare",
        )

    def _check_sweep(self) -> None:
        """Only what looks after sweeps takes one."""
        require(
            self.sweep is None or self.task.name in {"status", "resubmit"},
            key="sweep",
            got=self.sweep,
            allowed="null unless task=status or task=resubmit",
        )

    def _check_predictions(self) -> None:
        """Only scoring takes a file of predictions, and it takes nothing else."""
        scoring = self.task.name == "score"
        require(
            scoring == bool(self.predictions),
            key="predictions",
            got="null" if self.predictions is None else self.predictions,
            allowed="a file, for example task=score predictions=answers.csv" if scoring else "null unless task=score",
        )

    def _check_new_pictures(self) -> None:
        """Only a prediction takes a finished run with new pictures, and it needs both; an export takes a run alone."""
        predicting = self.task.name == "predict"
        exporting = self.task.name == "export"
        folder = "outputs/runs/textures/2026-01-31_12-00-00"
        for key, example, wanted in (("ckpt", folder, predicting or exporting), ("input", "new_pictures/", predicting)):
            got = getattr(self, key)
            other = " or task=export" if key == "ckpt" else ""
            here = f"for example task={self.task.name} {key}={example}"
            allowed = here if wanted else f"null unless task=predict{other}"
            require(wanted == bool(got), key=key, got="null" if got is None else got, allowed=allowed)
        words = self.input if isinstance(self.input, list) else [self.input]
        require(
            not predicting or all(isinstance(word, str) and word for word in words),
            key="input",
            got=self.input,
            allowed="a path, or a list of paths, each as text",
        )
        require(
            predicting or self.category is None,
            key="category",
            got=self.category,
            allowed="null unless task=predict; dataset.categories chooses those of a data set",
        )
