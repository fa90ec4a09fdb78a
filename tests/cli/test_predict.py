"""Settings that task=predict refuses, whatever the run's folder is called."""

import pytest

from velm_train.cli.compose import load_config
from velm_train.cli.predict import refuse_settings_of_the_run
from velm_train.core.errors import ConfigError

OF_A_SWEEP = "ckpt='runs/lora.r=4,seed=0'"


def test_folder_of_a_sweep_is_a_folder() -> None:
    refuse_settings_of_the_run(load_config(["task=predict", OF_A_SWEEP, "input=a.png"]))


def test_settings_that_the_run_decides_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^task=predict takes gate from the run that ckpt names"):
        refuse_settings_of_the_run(load_config(["task=predict", OF_A_SWEEP, "input=a.png", "gate.alpha=0.1"]))
