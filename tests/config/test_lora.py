"""The LoRA group: recipes that compose, and combinations that cannot work."""

import pytest

from velm_train.cli.compose import load_config
from velm_train.core.errors import ConfigError

RECIPES = {
    "default": ("lora", "none", 32.0),
    "rslora": ("rslora", "none", 8.0),
    "dora": ("dora", "none", 32.0),
    "pissa": ("pissa", "none", 16.0),
    "qlora": ("lora", "nf4", 32.0),
    "qlora_8bit": ("lora", "int8", 32.0),
}


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_every_recipe_composes(recipe: str) -> None:
    lora = load_config([f"lora={recipe}"]).lora
    assert (lora.variant, lora.quantisation, lora.alpha) == RECIPES[recipe]
    assert lora.r == 16
    assert lora.targets == "attention_mlp"


def test_rslora_keeps_the_scale_of_the_default() -> None:
    plain, stable = load_config([]).lora, load_config(["lora=rslora"]).lora
    assert plain.alpha / plain.r == stable.alpha / stable.r**0.5 == 2.0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["lora=pissa", "lora.quantisation=nf4"], "lora.variant=pissa is not possible.*would undo pissa"),
        (["lora=pissa", "lora.quantisation=int8"], "lora.variant=pissa is not possible.*would undo pissa"),
        (["lora=dora", "lora.quantisation=int8"], "lora.variant=dora is not possible.*lora, rslora with .*=int8"),
        (["lora.vision=true"], "lora.vision=True is not possible.*out of date after one step"),
        (["lora=qlora", "trainer.precision=16-mixed"], "trainer.precision=16-mixed .*bf16-mixed with .*=nf4"),
        (["lora.per_layer=[{layers: q_proj, r: 0, alpha: 8}]"], r"lora\.per_layer\.\*\.r=0"),
        (["lora.per_layer=[{layers: q_proj, r: 4, alpha: 0}]"], r"lora\.per_layer\.\*\.alpha=0"),
        (["lora.per_layer=[{layers: '', r: 4, alpha: 8}]"], r"lora\.per_layer\.\*\.layers=''"),
        (["lora.per_layer=[{layers: q, r: 4, alpha: 8},{layers: q, r: 8, alpha: 8}]"], "each pattern once"),
    ],
)
def test_combinations_that_cannot_work_are_refused(words: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load_config(words)


def test_dora_goes_with_nf4() -> None:
    assert load_config(["lora=dora", "lora.quantisation=nf4"]).lora.variant == "dora"


def test_layers_and_targets_of_one_s_own() -> None:
    lora = load_config(["lora.per_layer=[{layers: 'mlp.down_proj', r: 4, alpha: 8}]", "lora.targets='.*q_proj'"]).lora
    assert [(one.layers, one.r, one.alpha) for one in lora.per_layer] == [("mlp.down_proj", 4, 8.0)]
    assert type(lora.per_layer[0].alpha) is float
    assert lora.targets == ".*q_proj"
