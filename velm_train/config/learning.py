"""Settings for training, evaluation and logging."""

from dataclasses import dataclass
from typing import get_args

from velm_train.config.checks import at_least, inside, one_of, require
from velm_train.core.answer_scores import SetMethod
from velm_train.instructions.language_check import LANGUAGE_CHECKS

WANDB_MODES = ("offline", "online", "disabled")
BASELINES = (
    "linear_probe",
    "prototype",
    "detector_probe",
    "detector_prototype",
    "untuned",
    "image_blind",
    "look_twice_off",
    "prior_corrected",
    "free_text",
)


@dataclass(kw_only=True, slots=True)
class AlignmentConfig:
    """The first training stage: visual tokens are pulled to the words' embeddings, without a language-model pass.

    Attributes:
        max_steps: optimiser steps; 0 skips the stage.
        batch_size: samples per step.
        learning_rate: above 0.
        temperature: of the cosine similarities, above 0.
        second_look_weight: weight of the second-look tokens' term, 0 or more.
        bce_weight: weight of the adapter's own anomaly score, 0 or more.
    """

    max_steps: int
    batch_size: int
    learning_rate: float
    temperature: float
    second_look_weight: float
    bce_weight: float

    def __post_init__(self) -> None:
        """Checks the values."""
        at_least("alignment.max_steps", self.max_steps, 0)
        at_least("alignment.batch_size", self.batch_size, 1)
        inside("alignment.learning_rate", self.learning_rate, 0.0, 1.0)
        inside("alignment.temperature", self.temperature, 0.0, 10.0)
        at_least("alignment.second_look_weight", self.second_look_weight, 0.0)
        at_least("alignment.bce_weight", self.bce_weight, 0.0)


@dataclass(kw_only=True, slots=True)
class CostsConfig:
    """What outcomes cost, in any one unit; right answers cost nothing.

    Attributes:
        missed_defect: a defective part passes as good, 0 or more.
        false_alarm: a good part is given a defect type, 0 or more.
        wrong_type: a defective part is given another type, 0 or more.
        human_look: a person looks at a part, 0 or more.
    """

    missed_defect: float
    false_alarm: float
    wrong_type: float
    human_look: float

    def __post_init__(self) -> None:
        """Checks the values."""
        for key in ("missed_defect", "false_alarm", "wrong_type", "human_look"):
            at_least(f"evaluation.answers.costs.{key}", getattr(self, key), 0.0)


@dataclass(kw_only=True, slots=True)
class AnswersConfig:
    """What is asked of answers; calibrated on the images that protocol.validation_per_type sets aside.

    Attributes:
        set_method: score behind type sets: lac for the smallest, aps or raps for sets that grow with doubt.
        set_coverage: share of true types that the sets are to hold, above 0, below 1.
        max_error: largest share of wrong answers among those acted on without a person, above 0, below 1.
        sorting_confidence: chance that this bound holds, above 0, below 1.
        defect_share: share of defective parts on the line, above 0, below 1; weighs the costs.
        costs: of each outcome.
    """

    set_method: str
    set_coverage: float
    max_error: float
    sorting_confidence: float
    defect_share: float
    costs: CostsConfig

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("evaluation.answers.set_method", self.set_method, get_args(SetMethod))
        for key in ("set_coverage", "max_error", "sorting_confidence", "defect_share"):
            inside(f"evaluation.answers.{key}", getattr(self, key), 0.0, 1.0)


@dataclass(kw_only=True, slots=True)
class EvaluationConfig:
    """How the gated system is scored.

    Attributes:
        option_orders: orders of the closed list that are averaged, 1 or more.
        batch_size: questions per forward pass, 1 or more.
        baselines: rows beside the tuned model.
        max_control_images: flagged test images that the costly rows are scored on, with the same share of the images
            that the gate lets pass; 0 for all.
        language_checks: changes of wording that the answers are tried under.
        max_language_images: flagged defective test images for each of them; 0 for all.
        bootstrap: resamples for the intervals, 100 or more.
        answers: calibration of answers, type sets and abstention.
    """

    option_orders: int
    batch_size: int
    baselines: list[str]
    max_control_images: int
    language_checks: list[str]
    max_language_images: int
    bootstrap: int
    answers: AnswersConfig

    def __post_init__(self) -> None:
        """Checks the values."""
        at_least("evaluation.option_orders", self.option_orders, 1)
        at_least("evaluation.batch_size", self.batch_size, 1)
        for name in self.baselines:
            one_of("evaluation.baselines", name, BASELINES)
        at_least("evaluation.max_control_images", self.max_control_images, 0)
        for name in self.language_checks:
            one_of("evaluation.language_checks", name, LANGUAGE_CHECKS)
        at_least("evaluation.max_language_images", self.max_language_images, 0)
        at_least("evaluation.bootstrap", self.bootstrap, 100)


@dataclass(kw_only=True, slots=True)
class LoggerConfig:
    """Where a run is logged beside csv/metrics.csv in its folder, which there always is.

    Attributes:
        wandb_mode: offline, online or disabled.
        tensorboard: whether TensorBoard gets the figures of training.
        project: W&B project.
        group: of W&B's runs; null for the name of the sweep's folder within a sweep, and none outside.
        tags: W&B tags; within a sweep the settings of the job are added.
        max_pictures: test pictures in W&B's table of predictions, 0 or more; 0 shows no picture to anybody.
        files: whether adapter, gates and split are kept in W&B as artifacts with their lineage.
        timeout_s: most seconds that a run waits for W&B, above 0.
    """

    wandb_mode: str
    tensorboard: bool
    project: str
    group: str | None
    tags: list[str]
    max_pictures: int
    files: bool
    timeout_s: float

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("logger.wandb_mode", self.wandb_mode, WANDB_MODES)
        require(bool(self.project), key="logger.project", got="''", allowed="a name")
        at_least("logger.max_pictures", self.max_pictures, 0)
        inside("logger.timeout_s", self.timeout_s, 0.0, 3600.0)
