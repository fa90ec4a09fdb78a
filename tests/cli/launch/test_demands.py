"""Tasks, GPUs and nodes that are not what the trainer uses are refused; those that are pass."""

import dataclasses

import pytest

from velm_train.cli.compose import load_config
from velm_train.cli.launch.demands import check_demands
from velm_train.core.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["trainer=cpu"], {}),
        (["trainer=gpu"], {"gpus_per_node": 1}),
        (["trainer=ddp", "trainer.devices=4"], {"gpus_per_node": 4, "tasks_per_node": 4}),
        (["trainer=ddp", "trainer.devices=4"], {"gpus_per_node": 4, "tasks_per_node": 1}),
        (["trainer=ddp", "trainer.devices=null"], {"gpus_per_node": 4, "tasks_per_node": 4}),
        (["trainer=ddp_sim"], {"tasks_per_node": 2}),
        (["trainer=ddp_sim"], {"tasks_per_node": 1}),
        (["trainer=multi_node", "trainer.devices=4"], {"gpus_per_node": 4, "tasks_per_node": 4, "nodes": 2}),
    ],
)
def test_fitting_demands_pass(words: list[str], changes: dict[str, int], tiny_settings) -> None:
    check_demands(dataclasses.replace(tiny_settings, **changes), config=load_config(words))


@pytest.mark.parametrize(
    ("words", "changes", "expected"),
    [
        (["trainer=cpu"], {"gpus_per_node": 1}, r"gpus_per_node=1 is not possible; allowed: 0 with trainer\.acc.*=cpu"),
        (["trainer=gpu"], {}, r"gpus_per_node=0 is not possible; allowed: 1 with trainer\.accelerator=gpu"),
        (["trainer=gpu"], {"gpus_per_node": 1, "tasks_per_node": 2}, r"tasks_per_node=2 .* allowed: 1, one for"),
        (["trainer=ddp_sim"], {"tasks_per_node": 3}, r"tasks_per_node=3 is not possible; allowed: 1, or 2, one for"),
        (["trainer=ddp_sim"], {"nodes": 2, "tasks_per_node": 2}, r"nodes=2 is not possible; allowed: 1, as trainer"),
        (
            ["trainer=multi_node", "trainer.devices=4"],
            {"gpus_per_node": 4, "nodes": 2},
            r"tasks_per_node=1 is not possible; allowed: 4, one for each device \(trainer\.devices=4\)",
        ),
    ],
)
def test_mismatch_is_refused_with_the_setting(
    words: list[str], changes: dict[str, int], expected: str, tiny_settings
) -> None:
    with pytest.raises(ConfigError, match=expected):
        check_demands(dataclasses.replace(tiny_settings, **changes), config=load_config(words))
