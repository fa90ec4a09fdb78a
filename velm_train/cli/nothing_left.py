"""Training images after the gate, and the samples made of them, in; an error if nothing is left to learn from.

It says what the gate did and what to change.
"""

from collections import Counter
from collections.abc import Sequence

from velm_train.config.seeing import GateConfig
from velm_train.core.errors import GateError
from velm_train.instructions.builder import BuildResult
from velm_train.pipeline.looking import GatedImage


def require_flagged_defects(training: Sequence[GatedImage], *, gate: GateConfig) -> None:
    """Refuses to train where the gate stops every labelled defect.

    Args:
        training: every image that training may learn from, flagged or stopped; some of them labelled defects.
        gate: its settings.

    Raises:
        GateError: with the smallest p-value among the defects, which is what it would take.
    """
    defects = [image for image in training if image.record.gt_label]
    if any(image.decision.pred_label for image in defects):
        return
    smallest = min((image.decision.p_value for image in defects), default=1.0)
    raise GateError(
        f"no training sample is left after gating: {_flagged(training, gate=gate)}; the most unusual defect has a "
        f"p-value of {smallest:.3g}: raise gate.training_alpha to that, give more defects by protocol.k_shot, choose "
        "another detector, or set gate.policy=oracle"
    )


def require_samples(built: BuildResult, *, training: Sequence[GatedImage], gate: GateConfig) -> None:
    """Refuses to train where no sample could be built of what the gate flagged.

    Args:
        built: samples, and those that could not be built with the reason.
        training: as for `require_flagged_defects`.
        gate: its settings.

    Raises:
        GateError: with the commonest reason.
    """
    if built.kept:
        return
    what = f"no training sample is left after gating: {_flagged(training, gate=gate)}"
    if not built.dropped:
        raise GateError(f"{what}, and no region was found in them; raise gate.training_alpha or protocol.k_shot")
    ((reason, count),) = Counter(note.reason for note in built.dropped).most_common(1)
    raise GateError(
        f"{what}, and none of {len(built.dropped)} samples can be built, {count} of them because {reason}; change the "
        "views in instructions.tasks"
    )


def _flagged(training: Sequence[GatedImage], *, gate: GateConfig) -> str:
    defects = [image for image in training if image.record.gt_label]
    normals = [image for image in training if not image.record.gt_label]
    passed, alarms = (sum(image.decision.pred_label for image in part) for part in (defects, normals))
    return (
        f"with gate.policy={gate.policy} and gate.training_alpha={gate.training_alpha:g}, {passed} of {len(defects)} "
        f"labelled defects and {alarms} of {len(normals)} normals are flagged"
    )
