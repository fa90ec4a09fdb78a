"""Settings of packing that cannot work together are refused with what is allowed."""

import pytest

from velm_train.config.packing import check_packing
from velm_train.core.errors import ConfigError


@pytest.mark.parametrize(
    ("packing", "questions", "changes", "message"),
    [
        ("yes", 1, {}, "trainer.packing=yes is not possible; allowed: off, on"),
        ("on", 0, {}, "trainer.questions_per_image=0 is not possible; allowed: 1 or more"),
        ("off", 4, {}, "trainer.questions_per_image=4 is not possible; allowed: 1 with trainer.packing=off"),
        ("on", 4, {"augmented": True}, "trainer.questions_per_image=4 .* 1 with trainer.augmentation"),
        ("on", 1, {"compiled": True}, "trainer.packing=on is not possible; allowed: off with trainer.compile=true"),
    ],
)
def test_what_cannot_work_is_refused(packing, questions, changes, message):
    with pytest.raises(ConfigError, match=message):
        check_packing(packing, questions, **{"compiled": False, "augmented": False, **changes})


@pytest.mark.parametrize(("packing", "questions", "augmented"), [("off", 1, True), ("on", 1, True), ("on", 8, False)])
def test_what_works_is_taken(packing, questions, augmented):
    check_packing(packing, questions, compiled=False, augmented=augmented)
