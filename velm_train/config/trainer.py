"""Settings of the second training stage: what is optimised, how, and on which devices."""

from dataclasses import dataclass
from typing import get_args

from velm_train.config.augmentation import AugmentationConfig
from velm_train.config.checks import at_least, between, inside, one_of, require
from velm_train.config.packing import check_packing
from velm_train.config.strategies import check_devices, check_sharding
from velm_train.pipeline.cache_choice import FeatureCache
from velm_train.training.balance import Balance

BALANCES = get_args(Balance)
CHECKPOINTING = ("auto", "off", "every_n", "full")
PREFLIGHTS = ("auto", "off", "on")
OPTIMISERS = ("adamw", "adamw_fused", "adamw_8bit", "paged_adamw_8bit")
FEATURE_CACHES = get_args(FeatureCache)


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
        strategy: how devices share the work: single for one device, ddp for a whole model on each; fsdp2, deepspeed_2,
            deepspeed_2_offload, deepspeed_3 or deepspeed_3_offload for less memory on each; auto for the fastest that
            fits by the memory estimate.
        devices: number of devices of one machine, 1 or more, each with a process of its own; null for as many as there
            are GPUs.
        num_nodes: machines, 1 or more; above 1 srun or torchrun has to start the processes.
        precision: Lightning's precision string.
        validation_share: of the training parts, held out of training to measure its loss on, 0 to 0.5; 0 for none.
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
    strategy: str
    devices: int | None
    num_nodes: int
    precision: str
    validation_share: float

    def __post_init__(self) -> None:
        """Checks the values."""
        for key in ("max_steps", "batch_size", "accumulate"):
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
        between("trainer.validation_share", self.validation_share, 0.0, 0.5)
        check_devices(self.strategy, devices=self.devices, num_nodes=self.num_nodes)
        check_sharding(
            self.strategy,
            packing=self.packing,
            compiled=self.compile,
            preflight=self.preflight,
            optimiser=self.optimiser,
            precision=self.precision,
            live_towers=self.augmentation.active or self.feature_cache == "off",
        )
