"""A training set that is empty after gating is refused with what the gate did and what to change."""

from pathlib import Path

import numpy as np
import pytest

from velm_train.cli.nothing_left import require_flagged_defects, require_samples
from velm_train.config.seeing import GateConfig
from velm_train.core.errors import GateError
from velm_train.core.records import Detection, GateDecision, ImageRecord
from velm_train.instructions.builder import BuildResult, DroppedSample
from velm_train.pipeline.looking import GatedImage

GATE = GateConfig(
    policy="detector",
    alpha=0.1,
    training_alpha=0.25,
    pixel_alpha=0.01,
    allow_transductive=False,
    drift_level=0.01,
    card_alphas=[],
)


def image(defect_type: str, *, p_value: float) -> GatedImage:
    name = f"set/nut/{defect_type}/{p_value}.png"
    return GatedImage(
        record=ImageRecord(
            image_id=name,
            dataset="set",
            category="nut",
            split="train",
            defect_type=defect_type,
            image_path=Path("x.png"),
            gt_mask_paths=(),
            sha256="0" * 64,
            group_id=name,
            size_hw=(40, 60),
        ),
        role="train",
        group="seen",
        detection=Detection(
            image_id=name,
            detector_hash="d",
            anomaly_score=1.0,
            anomaly_map=np.ones((4, 6), dtype=np.float32),
            image_size_hw=(40, 60),
            out_of_sample=True,
        ),
        decision=GateDecision(
            image_id=name,
            p_value=p_value,
            alpha=0.25,
            image_threshold=2.0,
            pred_label=p_value <= 0.25,
            policy="detector",
        ),
        regions=(),
    )


def dropped(*reasons: str) -> BuildResult:
    return BuildResult(kept=(), dropped=tuple(DroppedSample(sample_id="s", reason=reason) for reason in reasons))


def test_gate_that_stops_every_defect_is_told_the_alpha_that_would_let_one_through() -> None:
    training = [image("cut", p_value=0.4), image("dent", p_value=0.32), image("good", p_value=0.2)]
    with pytest.raises(GateError) as caught:
        require_flagged_defects(training, gate=GATE)
    assert str(caught.value) == (
        "no training sample is left after gating: with gate.policy=detector and gate.training_alpha=0.25, 0 of 2 "
        "labelled defects and 1 of 1 normals are flagged; the most unusual defect has a p-value of 0.32: raise "
        "gate.training_alpha to that, give more defects by protocol.k_shot, choose another detector, or set "
        "gate.policy=oracle"
    )


def test_one_flagged_defect_is_enough() -> None:
    require_flagged_defects([image("cut", p_value=0.4), image("cut", p_value=0.25)], gate=GATE)


def test_samples_that_cannot_be_built_are_counted_by_their_commonest_reason() -> None:
    built = dropped("it rains", "there is no reference", "there is no reference")
    with pytest.raises(GateError) as caught:
        require_samples(built, training=[image("cut", p_value=0.1)], gate=GATE)
    assert str(caught.value) == (
        "no training sample is left after gating: with gate.policy=detector and gate.training_alpha=0.25, 1 of 1 "
        "labelled defects and 0 of 0 normals are flagged, and none of 3 samples can be built, 2 of them because there "
        "is no reference; change the views in instructions.tasks"
    )


def test_nothing_flagged_and_nothing_dropped_names_the_gate() -> None:
    with pytest.raises(GateError, match=r"no region was found in them; raise gate\.training_alpha or protocol\.k_shot"):
        require_samples(dropped(), training=[image("good", p_value=0.9)], gate=GATE)
