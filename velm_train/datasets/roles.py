"""A plan carried out on a selection: every normal and every defect gets its role, or the reason why it has none."""

from velm_train.core.errors import DataError
from velm_train.datasets.protocol_settings import Plan, ProtocolSettings, Rest
from velm_train.datasets.selection import Selection

UNTESTED_REASON = "its category is trained on, and this protocol tests only others"


def place_normals(selection: Selection, plan: Plan, settings: ProtocolSettings) -> None:
    """Puts every normal on its side: by its folder, or by a held-out share where a tested category has no test normals.

    Raises:
        DataError: if a category has no normals, or too few for what is held out.
    """
    selection.place_folder_normals()
    for category in selection.categories():
        if not selection.normals(category):
            raise DataError(f"category {category!r} has no normal images; the detector needs some")
        if category in plan.untested:
            selection.keep_normals(category)
        else:
            selection.hold_out_normals(
                category, fraction=settings.test_normal_fraction, num_kept=settings.num_reference + 1
            )


def assign_normals(selection: Selection, plan: Plan, settings: ProtocolSettings) -> None:
    """Gives the normals their roles.

    Raises:
        DataError: if a category has too few for references, calibration and detector.
    """
    for category in selection.categories():
        selection.assign_normals(
            category,
            num_reference=settings.num_reference,
            max_normals=settings.max_normals,
            calibration_fraction=settings.calibration_fraction,
            rest=rest_of(category, plan, settings),
        )


def assign_defects(selection: Selection, plan: Plan, settings: ProtocolSettings) -> None:
    """Chooses the training defects of all categories first: they decide on which side their groups are.

    Raises:
        DataError: if a type has too few images.
    """
    keys = [(name, kind) for name, kinds in selection.types().items() for kind in kinds]
    trained = [key for key in keys if plan.is_trained(key)]
    num_validation = settings.num_validation_per_type
    if plan.test_first:
        for category in sorted(plan.unseen):
            selection.keep_for_test(category)
    if plan.train == "half":
        shots = selection.choose_halves(trained)
    elif plan.train == "all":
        shots = selection.choose_all(trained, num_validation=num_validation)
    else:
        shots = selection.choose_shots(dict.fromkeys(trained, plan.train))
    for key in keys:
        selection.assign_type(
            key,
            shots=shots,
            num_validation=num_validation if plan.is_trained(key) else 0,
            rest=rest_of(key[0], plan, settings),
        )


def rest_of(category: str, plan: Plan, settings: ProtocolSettings) -> Rest:
    """Returns what becomes of the category's images that are neither trained on nor for validation."""
    return Rest(tested=category not in plan.untested, max_test=settings.max_test_per_type, reason=UNTESTED_REASON)
