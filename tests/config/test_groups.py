"""Every group refuses each impossible value by its key; values at the edge are in test_edges.py."""

import dataclasses
import math
import re
import types
import typing

import pytest

from velm_train.config.detectors import DETECTORS
from velm_train.config.root import Config
from velm_train.core.errors import ConfigError

IMPOSSIBLE = [
    ("name", ""),
    ("seed", -1),
    ("threads", -1),
    ("objective", "f1"),
    ("task.name", "trian"),
    ("task.num_preview", -1),
    ("task.num_thumbnails", 0),
    ("task.export", ["alpaca"]),
    ("paths.assets", ""),
    ("paths.artifacts", ""),
    ("paths.outputs", ""),
    ("dataset.name", ""),
    ("dataset.reader", "folder"),
    ("dataset.root", "/data"),
    ("dataset.on_bad_file", "skip"),
    ("dataset.synthesis", None),
    ("dataset.synthesis.height_px", 63),
    ("dataset.synthesis.height_px", 1025),
    ("dataset.synthesis.width_px", 63),
    ("dataset.synthesis.width_px", 1025),
    ("dataset.synthesis.train_good", 1),
    ("dataset.synthesis.test_good", 0),
    ("dataset.synthesis.defects_seen", 1),
    ("dataset.synthesis.defects_unseen", 0),
    ("dataset.synthesis.seed", -1),
    ("protocol.name", "k-shot"),
    ("protocol.k_shot", 0),
    ("protocol.validation_per_type", -1),
    ("protocol.reference_normals", -1),
    ("protocol.max_train_normals", -1),
    ("protocol.max_test_per_type", -1),
    ("protocol.test_normal_fraction", 0.0),
    ("protocol.test_normal_fraction", 1.0),
    ("protocol.calibration_fraction", -0.1),
    ("protocol.calibration_fraction", 0.91),
    ("protocol.multi_label", "split"),
    ("protocol.num_folds", 1),
    ("protocol.fold", -1),
    ("protocol.fold", 2),
    ("protocol.train_dataset", "mvtec_ac"),
    ("protocol.train_root", "/data/mvtec_ac"),
    ("protocol.published", "visa_ac/p1_k3_seed0"),
    ("detector.name", "padin"),
    ("detector.num_folds", -1),
    ("detector.patchcore", None),
    ("detector.layers", []),
    ("detector.input_height_px", 31),
    ("detector.input_height_px", 2049),
    ("detector.input_width_px", 31),
    ("detector.input_width_px", 2049),
    ("detector.patchcore.coreset_fraction", 0.0),
    ("detector.patchcore.coreset_fraction", 1.1),
    ("detector.patchcore.max_bank_patches", 15),
    ("detector.smoothing_sigma", -0.5),
    ("detector.smoothing_sigma", 17.0),
    ("detector.score_top_fraction", -0.1),
    ("detector.score_top_fraction", 1.1),
    ("detector.patchcore.num_neighbours", 1),
    ("detector.batch_size", 0),
    ("gate.policy", "none"),
    ("gate.alpha", 0.0),
    ("gate.alpha", 1.0),
    ("gate.training_alpha", 1.0),
    ("gate.training_alpha", 0.001),
    ("gate.pixel_alpha", 0.0),
    ("gate.drift_level", 1.0),
    ("gate.card_alphas", [0.05, 0.0]),
    ("gate.card_alphas", [1.0]),
    ("regions.binarisation", "otsu"),
    ("regions.min_area_px", 0),
    ("regions.merge_distance_px", -1),
    ("regions.max_regions", 0),
    ("regions.diffuse_fraction", 0.0),
    ("regions.diffuse_fraction", 1.001),
    ("regions.crop_margin_fraction", -0.1),
    ("regions.crop_margin_fraction", 4.1),
    ("regions.crop_min_px", 15),
    ("regions.contour_width_px", 0),
    ("regions.contour_width_px", 17),
    ("instructions.samples_per_region", 0),
    ("instructions.none_of_these_probability", -0.1),
    ("instructions.option_subset_probability", 1.1),
    ("instructions.paraphrase_probability", 1.1),
    ("instructions.synonym_probability", -0.1),
    ("instructions.min_options", 2),
    ("instructions.max_tokens", 15),
    ("model.family", "qwen"),
    ("model.embedded.cnn_px", 200),
    ("model.embedded.cnn_px", 32),
    ("model.embedded.vit_px", 196),
    ("model.embedded.first_look_grid", 4),
    ("model.embedded.first_look_grid", 0),
    ("model.encode_batch_size", 0),
    ("model.dtype", "float16"),
    ("model.embedded", None),
    ("look_twice.source", "detector"),
    ("look_twice.form", "released"),
    ("look_twice.pool", 0),
    ("look_twice.dim", 7),
    ("look_twice.levels", []),
    ("look_twice.levels", [0]),
    ("look_twice.map_steepness", 0.0),
    ("look_twice.map_prior_weight", -1.0),
    ("look_twice.map_prior_weight", 10.5),
    ("look_twice.mask_weight", -0.1),
    ("look_twice.mask_weight", 100.5),
    ("look_twice.score_noise", -0.1),
    ("look_twice.score_noise", 10.5),
    ("lora.r", 0),
    ("lora.r", 513),
    ("lora.alpha", 0.0),
    ("lora.dropout", -0.1),
    ("lora.dropout", 1.0),
    ("lora.variant", "qlora"),
    ("lora.targets", "all-linear"),
    ("lora.vision", True),
    ("lora.quantisation", "fp4"),
    ("alignment.max_steps", -1),
    ("alignment.batch_size", 0),
    ("alignment.learning_rate", 0.0),
    ("alignment.temperature", 0.0),
    ("alignment.second_look_weight", -0.1),
    ("alignment.bce_weight", -0.1),
    ("trainer.max_steps", 0),
    ("trainer.batch_size", 0),
    ("trainer.token_budget", -1),
    ("trainer.bucket_size", -1),
    ("trainer.accumulate", 0),
    ("callbacks.checkpoint_every", 0),
    ("callbacks.log_every", 0),
    ("callbacks.keep_last", 0),
    ("callbacks.use_best", True),
    ("callbacks.validate_every", 0),
    ("ckpt_path", ""),
    ("trainer.validation_share", 0.6),
    ("trainer.devices", 0),
    ("trainer.strategy", "horovod"),
    ("trainer.num_nodes", 0),
    ("trainer.lora_learning_rate", 0.0),
    ("trainer.projector_learning_rate", -1e-4),
    ("trainer.look_twice_learning_rate", 1.5),
    ("trainer.weight_decay", -0.1),
    ("trainer.warmup_fraction", 1.1),
    ("trainer.min_learning_rate_fraction", -0.1),
    ("trainer.gradient_clip", 0.0),
    ("trainer.bce_weight", -0.1),
    ("trainer.balance", "class"),
    ("trainer.hard_share", 1.1),
    ("trainer.feature_cache", "yes"),
    ("trainer.augmentation.brightness", 1.0),
    ("trainer.augmentation.contrast", -0.1),
    ("trainer.checkpointing", "some"),
    ("trainer.checkpointing_every", 1),
    ("trainer.preflight", "yes"),
    ("trainer.optimiser", "sgd"),
    ("trainer.peak_tflops", 0.0),
    ("trainer.packing", "yes"),
    ("trainer.questions_per_image", 0),
    ("trainer.accelerator", "cuda"),
    ("trainer.precision", "fp16"),
    ("evaluation.option_orders", 0),
    ("evaluation.batch_size", 0),
    ("evaluation.baselines", ["prototype", "majority"]),
    ("evaluation.max_control_images", -1),
    ("evaluation.language_checks", ["opposite"]),
    ("evaluation.max_language_images", -1),
    ("evaluation.bootstrap", 99),
    ("logger.wandb_mode", "on"),
    ("logger.project", ""),
    ("logger.max_pictures", -1),
    ("logger.timeout_s", 0.0),
    ("audit.allow", ["dup-1", "dup-1"]),
    ("audit.extra_folders", ["/a", "/a"]),
    ("audit.max_thumbnails", -1),
    ("defects.types", []),
    ("defects.per_type", 1),
    ("defects.foreground", "some"),
    ("defects.seed", -1),
    ("defects.out", ""),
]

NULL_BY_DEFAULT = (
    *("model.hub", "dataset.huggingface.", "evaluation.answers."),
    *(f"detector.{name}" for name in DETECTORS if name != "patchcore"),
)
"""Blocks that are null in the default, and answers: tests/config/test_null_blocks.py, test_answers.py."""

FREE = {
    "dataset.categories",
    "dataset.unseen_categories",
    "dataset.huggingface",
    "defects.recipes",
    "dataset.taxonomy",
    "detector.backbone",
    "detector.patchcore.reweight",
    "detector.patchcore.even_edges",
    "detector.half_precision",
    "detector.score_diffuse",
    "detector.shared",
    "audit.near_duplicates",
    "gate.allow_transductive",
    "instructions.tasks",
    "instructions.with_descriptions",
    "logger.tags",
    "logger.group",
    "logger.tensorboard",
    "logger.files",
    "lora.per_layer",
    "trainer.augmentation.flips",
    "trainer.augmentation.quarter_turns",
    "runs",
    "sweep",
    "trainer.compile",
    "rehearsal",
    "callbacks.keep_best",
    "callbacks.keep_checkpoints",
    "predictions",
    "ckpt",
    "input",
    "category",
}
"""Keys without an impossible value of their own: flags, names that their reader checks, and what other tests cover."""


@pytest.mark.parametrize(("key", "value"), IMPOSSIBLE)
def test_impossible_value_is_refused_by_its_key(change, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(key)}=.* is not possible; allowed: \S") as caught:
        change(key, value)
    assert "\n" not in str(caught.value)


FLOATS = sorted(
    {key for key, value in IMPOSSIBLE if isinstance(value, float)}
    - {"gate.training_alpha"}  # its own test below: two rules name it
)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", FLOATS)
def test_number_that_is_not_finite_is_refused(change, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        change(key, value)


def leaf_keys(kind: type, prefix: str = "") -> set[str]:
    """Returns the dotted keys of all plain values; a group that may be null counts as a key as well."""
    keys: set[str] = set()
    for field in dataclasses.fields(kind):
        choices = typing.get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
        inner = [choice for choice in choices if dataclasses.is_dataclass(choice)]
        if not inner or len(choices) > 1:
            keys.add(f"{prefix}{field.name}")
        for group in inner:
            keys |= leaf_keys(group, f"{prefix}{field.name}.")
    return keys


ABOUT_FINISHED_RUNS = ("predict.", "export.", "score.", "compare.")
"""Groups of tasks that read what runs have left; test_finished_runs.py and test_predict.py try their values."""


def test_every_key_has_an_impossible_value_or_a_reason_for_none() -> None:
    tried = {key for key, _ in IMPOSSIBLE}
    elsewhere = (*NULL_BY_DEFAULT, *ABOUT_FINISHED_RUNS)
    assert {key for key in leaf_keys(Config) if not key.startswith(elsewhere)} == tried | FREE
    assert tried.isdisjoint(FREE)
