"""Every protocol composes as shipped; what contradicts it is refused by the key to change."""

import re

import pytest

from velm_train.cli.compose import load_config
from velm_train.config.protocol import ProtocolConfig
from velm_train.core.errors import ConfigError
from velm_train.datasets.protocols import PROTOCOLS

ALONE = [name for name in PROTOCOLS if name != "cross_dataset"]


def protocol(*words: str) -> ProtocolConfig:
    return load_config(words).protocol


@pytest.mark.parametrize("name", ALONE)
def test_every_protocol_composes_alone_and_with_fast_debugging(name: str) -> None:
    task = "task=detect" if name == "zero_shot" else "task=run"
    assert protocol(f"protocol={name}", task).name == name
    assert protocol(f"protocol={name}", task, "debug=fast").name == name


def test_cross_dataset_composes_with_the_set_to_train_on() -> None:
    words = ("protocol=cross_dataset", "protocol.train_dataset=mvtec_ac", "protocol.train_root=/data/ac")
    assert protocol(*words).train_root == "/data/ac"
    assert protocol("protocol=cross_dataset", "protocol.train_dataset=textile").train_root is None


def test_published_split_composes_with_its_protocol() -> None:
    assert protocol("protocol.published=visa_ac/p1_k4_seed0").published == "visa_ac/p1_k4_seed0"
    assert protocol("protocol=half", "protocol.published=mvtec_ac/p2_seed3").name == "half"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["protocol=cross_dataset"],
            "protocol.train_dataset=None is not possible; allowed: a data set of conf/dataset",
        ),
        (
            ["protocol=cross_dataset", "protocol.train_dataset=mvtec_ac"],
            "protocol.train_root=None is not possible; allowed: a folder",
        ),
        (
            ["protocol=cross_dataset", "protocol.train_dataset=textile", "protocol.train_root=/data/x"],
            "protocol.train_root=/data/x is not possible; allowed: null (textile)",
        ),
        (["protocol.train_dataset=mvtec_ac"], "allowed: null, because only protocol=cross_dataset"),
        (["protocol.train_root=/data/x"], "allowed: null (no train_dataset)"),
        (["protocol=leave_type_out", "protocol.k_shot=0"], "protocol.k_shot=0 is not possible; allowed: 1 or more"),
        (["protocol=leave_type_out", "protocol.fold=3"], "protocol.fold=3 is not possible; allowed: 0 to 2"),
        (
            ["protocol=half", "protocol.published=visa_ac/p1_k4_seed0"],
            "protocol.name=half is not possible; allowed: k_shot",
        ),
        (["protocol.published=visa_ac/p1_k4_sed0"], "did you mean 'visa_ac/p1_k4_seed0'?"),
        (
            ["protocol.published=visa_ac/p1_k4_seed0", "protocol.validation_per_type=1"],
            "protocol.validation_per_type=1 is not possible; allowed: 0",
        ),
    ],
)
def test_contradiction_is_refused(words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load_config(words)
