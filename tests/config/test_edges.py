"""Values at the edge of what is possible are taken."""

import pytest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 0),
        ("threads", 0),
        ("dataset.synthesis.height_px", 64),
        ("dataset.synthesis.width_px", 1024),
        ("protocol.k_shot", 1),
        ("protocol.calibration_fraction", 0.0),
        ("protocol.calibration_fraction", 0.9),
        ("detector.patchcore.coreset_fraction", 1),
        ("detector.smoothing_sigma", 0.0),
        ("detector.score_top_fraction", 1.0),
        ("gate.training_alpha", 0.05),
        ("gate.card_alphas", []),
        ("regions.diffuse_fraction", 1.0),
        ("regions.merge_distance_px", 0),
        ("instructions.min_options", 3),
        ("instructions.none_of_these_probability", 1.0),
        ("model.embedded.first_look_grid", 6),
        ("look_twice.map_prior_weight", 0.0),
        ("lora.r", 512),
        ("lora.dropout", 0),
        ("lora.targets", r".*layers\.[0-5]\..*q_proj"),
        ("alignment.max_steps", 0),
        ("trainer.projector_learning_rate", 0.0),
        ("trainer.warmup_fraction", 1.0),
        ("trainer.hard_share", 0.0),
        ("trainer.augmentation.brightness", 0.99),
        ("evaluation.baselines", []),
        ("evaluation.bootstrap", 100),
    ],
)
def test_value_at_the_edge_is_taken(change, key: str, value: object) -> None:
    assert getattr(change(key, value), key.rsplit(".", maxsplit=1)[-1]) == value
