"""The shipped look-twice groups, and which settings of a form and a source go together."""

import dataclasses

import pytest

from velm_train.cli.compose import load_config
from velm_train.config.naming import LookTwiceConfig
from velm_train.core.errors import ConfigError


@pytest.mark.parametrize("name", ["fused", "learned", "map", "random", "centre", "oracle", "published", "off"])
def test_every_shipped_group_is_taken(name: str) -> None:
    found = load_config([f"look_twice={name}"]).look_twice
    assert found.source == {"published": "learned"}.get(name, name)
    assert found.form == ("published" if name == "published" else "improved")


def test_the_published_form_goes_with_the_learned_source_and_without_noise(change) -> None:
    with pytest.raises(ConfigError, match=r"look_twice\.source=fused is not possible; allowed: learned for look_twice"):
        change("look_twice.form", "published")
    published = dataclasses.asdict(load_config(["look_twice=published"]).look_twice)
    with pytest.raises(ConfigError, match=r"look_twice\.score_noise=0\.5 is not possible; allowed: 0"):
        LookTwiceConfig(**{**published, "score_noise": 0.5})
