"""Validation, best checkpoints and where training begins: what cannot be is refused with what can."""

import pytest

from velm_train.cli.compose import load_config
from velm_train.core.errors import ConfigError

SHARE = "trainer.validation_share=0.2"
BEST = "callbacks.keep_best=true"


def test_by_default_nothing_is_held_out_and_training_goes_on_by_itself() -> None:
    config = load_config([])
    assert (config.trainer.validation_share, config.ckpt_path) == (0.0, "auto")
    callbacks = config.callbacks
    assert (callbacks.keep_last, callbacks.keep_best, callbacks.use_best, callbacks.keep_checkpoints) == (
        2,
        False,
        False,
        False,
    )


@pytest.mark.parametrize(
    "words",
    [
        [SHARE],
        [SHARE, BEST, "callbacks.use_best=true", "ckpt_path=best"],
        ["ckpt_path=none", "task=train"],
        ["ckpt_path=outputs/runs/textures/run"],
    ],
)
def test_possible_choices(words: list[str]) -> None:
    load_config(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([BEST], r"callbacks\.keep_best=true .* set trainer\.validation_share=0\.2"),
        ([SHARE, "callbacks.use_best=true"], r"callbacks\.use_best=true .* callbacks\.keep_best=true"),
        (["ckpt_path=best"], r"ckpt_path=best .* callbacks\.keep_best=true, and set trainer\.validation_share=0\.2"),
        ([SHARE, "ckpt_path=best"], r"ckpt_path=best .* for best set callbacks\.keep_best=true$"),
        (["ckpt_path=''"], "ckpt_path='' is not possible"),
        (["task=detect", "ckpt_path=none"], "auto with task=detect, which trains nothing"),
        (["trainer.validation_share=0.6"], r"trainer\.validation_share=0\.6 .* 0\.0 to 0\.5"),
        (["callbacks.keep_last=0"], r"callbacks\.keep_last=0 .* 1 or more"),
        (["callbacks.validate_every=0"], r"callbacks\.validate_every=0 .* 1 or more"),
    ],
)
def test_impossible_choices_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(words)
