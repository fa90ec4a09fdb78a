"""Messages of the checks that all settings share."""

import pytest

from velm_train.config import checks
from velm_train.core.errors import ConfigError


def test_messages_say_key_value_and_what_is_allowed() -> None:
    with pytest.raises(ConfigError) as caught:
        checks.between("gate.alpha", 2.0, 0.0, 1.0, "of the normals")
    assert str(caught.value) == "gate.alpha=2.0 is not possible; allowed: 0.0 to 1.0 of the normals"
    with pytest.raises(ConfigError) as caught:
        checks.at_least("lora.r", 0, 1, "ranks")
    assert str(caught.value) == "lora.r=0 is not possible; allowed: 1 or more ranks"
    with pytest.raises(ConfigError) as caught:
        checks.inside("gate.alpha", 0.0, 0.0, 1.0)
    assert str(caught.value) == "gate.alpha=0.0 is not possible; allowed: above 0.0 and below 1.0"
    with pytest.raises(ConfigError) as caught:
        checks.one_of("task.name", "rum", ("run", "train"))
    assert str(caught.value) == "task.name=rum is not possible; allowed: run, train"
