"""Every way to mistype a setting ends in one line; everything that is shipped composes."""

import os
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra

from velm_train.cli.compose import (
    check_overrides,
    conf_dir,
    experiment_names,
    load_config,
    nearest,
    resolved_yaml,
    set_offline_environment,
    split_arguments,
    typed,
)
from velm_train.config import Config
from velm_train.core.errors import ConfigError

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").rglob("*.yaml"))
OPTIONS = sorted(
    f"{folder}={path.stem}"
    for folder in ("task", "look_twice", "trainer", "logger", "debug")
    for path in (conf_dir() / folder).glob("*.yaml")
)


def problem(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shipped_configuration_composes() -> None:
    config = load_config([])
    assert isinstance(config, Config)
    assert (config.task.name, config.dataset.reader) == ("run", "textures")


def test_experiments_are_found() -> None:
    assert experiment_names() == EXPERIMENTS
    assert {"textures", "textile"} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_has_its_own_name(name: str) -> None:
    assert load_config([f"experiment={name}"]).name == name


NEEDED = {
    "task=compare": ["runs=[outputs/a,outputs/b]"],
    "task=export": ["ckpt=outputs/a"],
    "task=predict": ["ckpt=outputs/a", "input=new"],
    "task=score": ["predictions=answers.csv"],
}
"""What tasks about finished runs need to be given."""


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_that_is_not_the_only_one_composes(option: str) -> None:
    load_config([option, *(NEEDED[option] if option in NEEDED else [])])


@pytest.mark.parametrize("reader", ["mvtec_style", "generic_folder", "table"])
def test_readers_of_own_data_compose_with_a_root(reader: str) -> None:
    assert load_config([f"dataset={reader}", "dataset.root=/data/x"]).dataset.root == "/data/x"


def test_overrides_reach_their_values_with_their_types() -> None:
    config = load_config(
        ["lora.r=4", "seed=0", "gate.alpha=0.1", "detector.layers=[block3,final]", "look_twice=off", "lora.alpha=8"]
    )
    assert (config.lora.r, config.seed, config.gate.alpha) == (4, 0, 0.1)
    assert config.detector.layers == ["block3", "final"]
    assert config.look_twice.source == "off"
    assert type(config.lora.alpha) is float


def test_word_on_the_command_line_wins_over_the_experiment() -> None:
    assert load_config(["name=mine", "experiment=textile"]).name == "mine"


def test_interpolations_are_resolved(monkeypatch) -> None:
    monkeypatch.setenv("VELM_ASSETS", "/somewhere/assets")
    config = load_config(["paths.outputs=${paths.artifacts}/runs", "paths.artifacts=kept"])
    assert (config.paths.assets, config.paths.outputs) == ("/somewhere/assets", "kept/runs")


def test_resolved_yaml_is_the_whole_configuration() -> None:
    config = load_config(["lora.r=4"])
    body = yaml.safe_load(resolved_yaml(config))
    assert list(body) == list(Config.__slots__)
    assert body["lora"]["r"] == 4
    assert "${" not in resolved_yaml(config)


def test_missing_setting_is_an_error_and_not_a_silent_choice() -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        composed = compose("config", overrides=["~lora.r"])
    with pytest.raises(ConfigError, match=r"^lora\.r: .*missing mandatory value"):
        typed(composed)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("lora.rank=8", "unknown setting 'lora.rank'"),
        ("gate.alhpa=0.1", "unknown setting 'gate.alhpa'; did you mean gate.alpha"),
        ("balance=none", "did you mean trainer.balance?"),
        ("trainer.lr=0.1", "unknown setting 'trainer.lr'"),
        ("modell=embedded", "unknown setting 'modell'; did you mean model"),
        ("+x=1", "unknown setting 'x'"),
        ("++x=1", "unknown setting 'x'"),
        ("+lora.x=1", "unknown setting 'lora.x'"),
        ("instructions.tasks.describe.weight=1", "unknown setting 'instructions.tasks.describe.weight'"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_spelling(word: str, expected: str) -> None:
    message = problem(word)
    assert message.startswith(expected) or expected in message
    assert message.endswith("(python -m velm_train --help lists all)")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("model=embeded", "'model=embeded': model has no option 'embeded'; did you mean embedded?; allowed: embedded"),
        ("experiment=textur", "experiment has no option 'textur'; did you mean textures"),
        ("experiment=nonsense", "experiment has no option 'nonsense'; allowed: textile, textures"),
        ("experiment=[textile]", "experiment has no option ['textile']"),
        ("lora={r:8}", "lora has no option {'r': 8}"),
        ("model=null", "model has no option None; allowed: embedded"),
        ("debug=null", "debug has no option None; allowed: fast"),
    ],
)
def test_unknown_option_of_a_group_is_refused_with_the_allowed_ones(word: str, expected: str) -> None:
    assert expected in problem(word)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("lora.r=abc", "lora.r: Value 'abc' of type 'str' could not be converted to Integer (got 'abc')"),
        ("lora.r=1.5", "lora.r: Value '1.5' of type 'float' could not be converted to Integer (got 1.5)"),
        ("lora.r=[8]", "lora.r: Value '[8]'"),
        ("gate.allow_transductive=maybe", "gate.allow_transductive: Value 'maybe' is not a valid bool"),
        ("gate.alpha=small", "gate.alpha: Value 'small' of type 'str' could not be converted to Float"),
        ("detector.layers=block6", "detector.layers: Invalid value assigned"),
        ("lora.r=null", "lora.r: Incompatible value 'None' for field of type 'int'"),
        ("name=null", "name: Incompatible value 'None' for field of type 'str'"),
        ("paths.outputs=null", "paths.outputs: Incompatible value 'None'"),
        ("lora.r=${foo}", "Interpolation key 'foo' not found"),
        ("lora.r=${lora.alpha}.5", "lora.r: "),
    ],
)
def test_value_of_another_type_is_refused_by_its_key(word: str, expected: str) -> None:
    assert problem(word).startswith(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lora.r=0"], "lora.r=0 is not possible; allowed: 1 to 512"),
        (["gate.alpha=.nan"], "gate.alpha"),
        (["task.name=rum"], "task.name=rum is not possible; allowed: run, train"),
        (["instructions.tasks.name_type.views=[corp]"], "instructions.tasks.*.views=corp is not possible"),
        (["dataset=mvtec_style"], "dataset.root=None is not possible; allowed: a folder"),
        (["protocol.k_shot=99"], "protocol.k_shot=99 is not possible"),
        (["dataset=textile", "dataset.synthesis.seed=1"], "Could not override 'dataset.synthesis.seed': the groups"),
        (["~lora"], "lora: Structured config of type `Config` has missing mandatory value: lora"),
    ],
)
def test_impossible_value_is_refused_by_its_key(words: list[str], expected: str) -> None:
    assert problem(*words).startswith(expected)


@pytest.mark.parametrize("word", ["lora.r", "a b=c", "lora.r=[1", "x=}"])
def test_word_that_is_no_override_is_refused(word: str) -> None:
    assert problem(word).startswith(f"{word!r} is not of the form key=value")


@pytest.mark.parametrize("word", ["lora.r=8,16", "task=run,train", "experiment=textures,textile"])
def test_several_values_need_multirun(word: str) -> None:
    remedy = "add --multirun to run once for each value, or write key=[a,b] for a list"
    assert problem(word) == f"Ambiguous value for argument '{word}': {remedy}"


@pytest.fixture
def loader() -> ConfigLoader:
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        yield GlobalHydra.instance().config_loader()


@pytest.mark.parametrize(
    "word",
    [
        "lora.r=8,16,32",
        "lora.r=range(1,4)",
        "lora.alpha=interval(1,4)",
        "task=run,train",
        "look_twice=glob(*)",
        "hydra/launcher=submitit_slurm",
        "hydra.sweep.dir=x",
        "~debug",
    ],
)
def test_sweeps_and_words_for_hydra_pass_the_check(loader: ConfigLoader, word: str) -> None:
    check_overrides([word], loader=loader, known_keys=["lora", "lora.r", "lora.alpha"])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("task=run,trian", r"'task=run,trian': task has no option 'trian'; did you mean train"),
        ("task=interval(1,2)", r"task has no option"),
        ("lora.q=1,2", r"unknown setting 'lora\.q'; did you mean lora\.r"),
    ],
)
def test_sweep_over_something_unknown_is_refused(loader: ConfigLoader, word: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        check_overrides([word], loader=loader, known_keys=["lora", "lora.r", "lora.alpha"])


@pytest.mark.parametrize(
    ("arguments", "flags", "overrides"),
    [
        ([], [], []),
        (["lora.r=8", "seed=1"], [], ["lora.r=8", "seed=1"]),
        (["-m", "lora.r=8,16"], ["-m"], ["lora.r=8,16"]),
        (["seed=1", "--multirun", "lora.r=8"], ["--multirun"], ["seed=1", "lora.r=8"]),
        (["--cfg", "job", "seed=1"], ["--cfg", "job"], ["seed=1"]),
        (["-c", "hydra"], ["-c", "hydra"], []),
        (["--config-dir", "own", "seed=1"], ["--config-dir", "own"], ["seed=1"]),
        (["--config-dir=own", "seed=1"], ["--config-dir=own"], ["seed=1"]),
        (["--info", "defaults", "seed=1"], ["--info", "defaults"], ["seed=1"]),
        (["--package", "a.b", "--help"], ["--package", "a.b", "--help"], []),
    ],
)
def test_flags_and_their_values_are_told_from_overrides(
    arguments: list[str], flags: list[str], overrides: list[str]
) -> None:
    assert split_arguments(arguments) == (flags, overrides)


def test_nearest_names_at_most_two_spellings() -> None:
    assert nearest("alfa", ["gate.alpha", "lora.alpha", "alpha"]) == "; did you mean alpha?"
    assert nearest("r", ["gate.r", "lora.r", "other.r"]) == "; did you mean gate.r or lora.r?"
    assert nearest("zzz", ["gate.alpha"]) == ""


def test_environment_of_the_user_is_kept(monkeypatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    set_offline_environment()
    assert (os.environ["TOKENIZERS_PARALLELISM"], os.environ["WANDB_SILENT"]) == ("true", "true")


def test_conf_lies_beside_the_package() -> None:
    assert conf_dir() == Path(__file__).parents[2] / "conf"
