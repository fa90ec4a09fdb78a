"""Settings for training, evaluation and logging."""

from dataclasses import dataclass
from typing import get_args

from velm_train.config.augmentation import AugmentationConfig
from velm_train.config.checks import at_least, between, inside, one_of, require
from velm_train.config.packing import check_packing
from velm_train.core.answer_scores import SetMethod
from velm_train.instructions.language_check import LANGUAGE_CHECKS
from velm_train.pipeline.features import FeatureCache
from velm_train.training.orders import Balance

WANDB_MODES = ("offline", "online", "disabled")
BALANCES = get_args(Balance)
CHECKPOINTING = ("auto", "off", "every_n", "full")
PREFLIGHTS = ("auto", "off", "on")
OPTIMISERS = ("adamw", "adamw_fused", "adamw_8bit", "paged_adamw_8bit")
FEATURE_CACHES = get_args(FeatureCache)
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
class TrainerConfig:
    """The second training stage, run by Lightning.

    Attributes:
        max_steps: optimiser steps, 1 or more.
        batch_size: samples per forward pass, 1 or more; with a token budget the most there may be.
        token_budget: tokens per forward pass, padding included, so that passes of short samples hold more of them;
            0 for batches of `batch_size` samples.
        bucket_size: samples that are sorted by length together, to save padding; 0 for none.
        accumulate: forward passes per optimiser step, 1 or more.
        lora_learning_rate: peak, above 0.
        projector_learning_rate: peak, 0 freezes the projector.
        look_twice_learning_rate: peak, 0 freezes the adapter.
        weight_decay: 0 or more; never on biases and norms.
        warmup_fraction: share of the steps, 0 to 1.
        min_learning_rate_fraction: where the cosine ends, share of the peak, 0 to 1.
        gradient_clip: largest gradient norm, above 0.
        bce_weight: weight of the adapter's own anomaly score in the loss, 0 or more.
        balance: none, or equal shares of every type answered, every category, or true and false alarms (gate); hard
            for more of the samples whose right answer the model was unsure of at the end of the epoch before.
        hard_share: of the visits of an epoch that balance hard draws by hardness, 0 to 1; the others go to all alike.
        feature_cache: whether what the frozen vision tower says of a view is stored and shared by epochs, runs and
            jobs: on, off for encoding views whenever they are shown, or auto for on where the disk has room and
            nothing forbids it.
        augmentation: what changes in training pictures from visit to visit.
        checkpointing: which of the language model's blocks compute their activations again in the backward pass, for
            less memory and more time: off, every_n for one in checkpointing_every, full for all, or auto for as few
            as the pre-flight finds to fit.
        checkpointing_every: for every_n and auto, 2 or more.
        preflight: whether the largest batch is tried before training, for its memory: on, off, or auto for on where
            there is a GPU.
        compile: whether the language model's blocks run as compiled code, which takes minutes to make.
        optimiser: adamw, adamw_fused, adamw_8bit or paged_adamw_8bit.
        peak_tflops: of a device at its best, 10**12 operations a second, above 0; null to report no utilisation.
        packing: on to compute the samples of a forward pass end to end as one row, without padding; it is tried
            against samples computed one by one at the start and switched off if it is not exact. off for padding.
        questions_per_image: most samples about the same views that are computed behind these views as one, which are
            encoded and attended to once; 1 for none. Above 1 with packing on, and instructions.samples_per_region
            above 1 so that there are such samples; token_budget then counts what is shared once.
        accelerator: cpu, gpu or auto, as in Lightning.
        devices: number of devices.
        precision: Lightning's precision string.
    """

    max_steps: int
    batch_size: int
    token_budget: int
    bucket_size: int
    accumulate: int
    lora_learning_rate: float
    projector_learning_rate: float
    look_twice_learning_rate: float
    weight_decay: float
    warmup_fraction: float
    min_learning_rate_fraction: float
    gradient_clip: float
    bce_weight: float
    balance: str
    hard_share: float
    feature_cache: str
    augmentation: AugmentationConfig
    checkpointing: str
    checkpointing_every: int
    preflight: str
    compile: bool
    optimiser: str
    peak_tflops: float | None
    packing: str
    questions_per_image: int
    accelerator: str
    devices: int
    precision: str

    def __post_init__(self) -> None:
        """Checks the values."""
        for key in ("max_steps", "batch_size", "accumulate", "devices"):
            at_least(f"trainer.{key}", getattr(self, key), 1)
        at_least("trainer.token_budget", self.token_budget, 0)
        at_least("trainer.bucket_size", self.bucket_size, 0)
        inside("trainer.lora_learning_rate", self.lora_learning_rate, 0.0, 1.0)
        between("trainer.projector_learning_rate", self.projector_learning_rate, 0.0, 1.0)
        between("trainer.look_twice_learning_rate", self.look_twice_learning_rate, 0.0, 1.0)
        at_least("trainer.weight_decay", self.weight_decay, 0.0)
        between("trainer.warmup_fraction", self.warmup_fraction, 0.0, 1.0)
        between("trainer.min_learning_rate_fraction", self.min_learning_rate_fraction, 0.0, 1.0)
        inside("trainer.gradient_clip", self.gradient_clip, 0.0, 1e6)
        at_least("trainer.bce_weight", self.bce_weight, 0.0)
        one_of("trainer.balance", self.balance, BALANCES)
        between("trainer.hard_share", self.hard_share, 0.0, 1.0)
        one_of("trainer.feature_cache", self.feature_cache, FEATURE_CACHES)
        require(
            self.feature_cache != "on" or not self.augmentation.active,
            key="trainer.feature_cache",
            got=self.feature_cache,
            allowed="auto or off with trainer.augmentation, which shows every picture another way at each visit, so "
            "that nothing stored could be used again",
        )
        one_of("trainer.checkpointing", self.checkpointing, CHECKPOINTING)
        at_least("trainer.checkpointing_every", self.checkpointing_every, 2)
        one_of("trainer.preflight", self.preflight, PREFLIGHTS)
        one_of("trainer.optimiser", self.optimiser, OPTIMISERS)
        if self.peak_tflops is not None:
            inside("trainer.peak_tflops", self.peak_tflops, 0.0, 1e6)
        check_packing(self.packing, self.questions_per_image, compiled=self.compile, augmented=self.augmentation.active)
        one_of("trainer.accelerator", self.accelerator, ("cpu", "gpu", "auto"))
        one_of("trainer.precision", self.precision, ("32-true", "bf16-mixed", "16-mixed"))


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
    """Where training is logged besides the run folder.

    Attributes:
        wandb_mode: offline, online or disabled.
        project: W&B project.
        tags: W&B tags.
    """

    wandb_mode: str
    project: str
    tags: list[str]

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("logger.wandb_mode", self.wandb_mode, WANDB_MODES)
        require(bool(self.project), key="logger.project", got="''", allowed="a name")


@dataclass(kw_only=True, slots=True)
class CallbacksConfig:
    """What is kept and logged while training.

    Attributes:
        checkpoint_every: optimiser steps between checkpoints, 1 or more.
        log_every: optimiser steps between values in the loggers, 1 or more.
    """

    checkpoint_every: int
    log_every: int

    def __post_init__(self) -> None:
        """Checks the values."""
        at_least("callbacks.checkpoint_every", self.checkpoint_every, 1)
        at_least("callbacks.log_every", self.log_every, 1)
