"""How samples are packed into rows, as `trainer` says; refused where it cannot work."""

from velm_train.config.checks import at_least, one_of, require

PACKING = ("off", "on")


def check_packing(packing: str, questions_per_image: int, *, compiled: bool, augmented: bool) -> None:
    """Checks the two settings of packing, and what they go together with.

    Args:
        packing: of `trainer`.
        questions_per_image: of `trainer`.
        compiled: whether the language model's blocks are to run as compiled code.
        augmented: whether training pictures change from visit to visit.
    """
    one_of("trainer.packing", packing, PACKING)
    at_least("trainer.questions_per_image", questions_per_image, 1)
    require(
        packing == "off" or not compiled,
        key="trainer.packing",
        got=packing,
        allowed="off with trainer.compile=true, whose code would be made anew for every row",
    )
    require(
        questions_per_image == 1 or packing == "on",
        key="trainer.questions_per_image",
        got=questions_per_image,
        allowed="1 with trainer.packing=off; questions share views in rows alone",
    )
    require(
        questions_per_image == 1 or not augmented,
        key="trainer.questions_per_image",
        got=questions_per_image,
        allowed="1 with trainer.augmentation, which shows every question its own form of a picture",
    )
