"""Settings of the launchers are refused by the key to change."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

from velm_train.config.launching import ProcessSettings, SlurmSettings
from velm_train.core.errors import ConfigError

PRESETS = Path(__file__).parents[2] / "conf" / "hydra" / "launcher"


@pytest.fixture
def slurm_settings() -> SlurmSettings:
    values = yaml.safe_load((PRESETS / "slurm.yaml").read_text())
    return SlurmSettings(**{key: value for key, value in values.items() if not key.startswith("_")})


def test_preset_holds_every_setting_and_no_other(slurm_settings: SlurmSettings) -> None:
    assert json.loads(json.dumps(dataclasses.asdict(slurm_settings))) == dataclasses.asdict(slurm_settings)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"time_minutes": 0}, "hydra.launcher.time_minutes=0 is not possible; allowed: 1 or more minute"),
        ({"memory_gb": 0.0}, "hydra.launcher.memory_gb=0.0 is not possible; allowed: above 0"),
        ({"memory_gb": float("inf")}, "hydra.launcher.memory_gb=inf"),
        ({"cpus_per_task": 0}, "hydra.launcher.cpus_per_task=0"),
        ({"gpus_per_node": -1}, "hydra.launcher.gpus_per_node=-1"),
        ({"max_requeues": -1}, "hydra.launcher.max_requeues=-1"),
        ({"nodes": 0}, "hydra.launcher.nodes=0"),
        ({"tasks_per_node": 0}, "hydra.launcher.tasks_per_node=0"),
        ({"array_parallelism": 0}, "hydra.launcher.array_parallelism=0"),
        ({"poll_seconds": 0.0}, "hydra.launcher.poll_seconds=0.0"),
        ({"time_minutes": 2, "signal_seconds": 120}, "allowed: fewer than the 120 seconds of hydra.launcher.time_min"),
        ({"sbatch": {"--qos": "x"}}, "allowed: names without leading dashes"),
    ],
)
def test_impossible_demand_is_refused(changes: dict[str, object], expected: str, slurm_settings: SlurmSettings) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        dataclasses.replace(slurm_settings, **changes)


def test_signal_a_second_before_the_first_second_is_still_inside(slurm_settings: SlurmSettings) -> None:
    assert dataclasses.replace(slurm_settings, time_minutes=2, signal_seconds=119).signal_seconds == 119


def test_no_job_at_a_time_is_refused() -> None:
    assert ProcessSettings(max_parallel=1).max_parallel == 1
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.max_parallel=0"):
        ProcessSettings(max_parallel=0)
