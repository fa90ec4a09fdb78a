"""Roles of images in; nothing comes out, or an error before any detector is fitted: a rate that no gate can hold."""

from collections.abc import Mapping, Sequence

from velm_train.core.errors import GateError
from velm_train.core.records import ImageRecord, Role
from velm_train.gating.conformal import num_needed, smallest_alpha
from velm_train.gating.guarantees import reach


def is_fitted(record: ImageRecord, roles: Mapping[str, Role]) -> bool:
    """Returns whether the detector is fitted on an image: a normal one of role train."""
    return roles[record.image_id] == "train" and not record.gt_label


def calibrating(images: Sequence[ImageRecord], roles: Mapping[str, Role]) -> list[ImageRecord]:
    """Returns the images that calibrate a category's gate: those held out for it, or those the detector is fitted on.

    Args:
        images: of one category.
        roles: image_id -> role.
    """
    held_out = [record for record in images if roles[record.image_id] == "calibration"]
    return held_out or [record for record in images if is_fitted(record, roles)]


def require_reach(records: Sequence[ImageRecord], roles: Mapping[str, Role], *, alpha: float) -> None:
    """Refuses a false-alarm rate that some category cannot reach, naming all of them at once.

    A category without any normal image is left to the detector, which says so.

    Args:
        records: every image of every category.
        roles: image_id -> role.
        alpha: the false-alarm rate asked for.

    Raises:
        GateError: naming every category whose normal parts are too few.
    """
    members: dict[str, list[ImageRecord]] = {}
    for record in records:
        members.setdefault(record.category, []).append(record)
    counts = {name: len({one.group_id for one in calibrating(members[name], roles)}) for name in sorted(members)}
    short = [
        f"{name} ({n} normal parts, floor {smallest_alpha(n):.4g})"
        for name, n in counts.items()
        if n and not reach(n, alpha).reachable
    ]
    if short:
        held_out = "calibration" in {roles[record.image_id] for record in records}
        fitted = ", or set protocol.calibration_fraction=0 to calibrate on those the detector is fitted on"
        raise GateError(
            f"gate.alpha={alpha:g} cannot be reached in {', '.join(short)}: the floor is 1/(n+1), and "
            f"{num_needed(alpha)} normal parts are needed to calibrate on; raise gate.alpha and gate.training_alpha to "
            f"the floor or above, or add normal images{fitted if held_out else ''}"
        )
