"""Command-line words in, a checked `Config` out; every mistake is one line with the nearest valid spelling."""

import dataclasses
import difflib
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args, get_origin

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from velm_train.config import Config
from velm_train.core.errors import ConfigError

CONFIG_NAME = "config"


def conf_dir() -> Path:
    """Returns the folder of YAML files: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parent / "conf"


def load_config(overrides: Sequence[str]) -> Config:
    """Composes `conf/` with command-line overrides and checks every value.

    Args:
        overrides: words such as `experiment=textile` and `lora.r=8`.

    Returns:
        The typed configuration, interpolations resolved.

    Raises:
        ConfigError: if a key, group, type or value is not possible, naming what is.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        loader = GlobalHydra.instance().config_loader()
        check_overrides(overrides, loader=loader, known_keys=_known_keys())
        try:
            composed = compose(CONFIG_NAME, overrides=list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_composition_problem(error)) from error
    return typed(composed)


def composed_run_folder(overrides: Sequence[str]) -> str:
    """Returns the run folder that Hydra would make now; its name may hold the time."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        folder: str = compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True).hydra.run.dir
    return folder


def check_words(overrides: Sequence[str]) -> None:
    """Refuses unknown groups, options and keys of a sweep before its first job starts; each job checks its values.

    Raises:
        ConfigError: naming the word, what is allowed and the nearest spelling.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        check_overrides(overrides, loader=GlobalHydra.instance().config_loader(), known_keys=_known_keys())
    GlobalHydra.instance().clear()


def typed(composed: DictConfig) -> Config:
    """Turns a composed configuration into the checked dataclass tree.

    Raises:
        ConfigError: if a key is unknown or missing, or a value is of the wrong type or impossible.
    """
    schema = OmegaConf.structured(Config)
    try:
        merged = OmegaConf.merge(schema, composed)
        OmegaConf.resolve(merged)
        config = OmegaConf.to_object(merged)
    except ConfigError:
        raise
    except OmegaConfBaseException as error:
        key = error.full_key
        if not key:
            raise ConfigError(_first_line(error)) from error
        got = OmegaConf.select(composed, key)
        value = f" (got {got!r})" if got else ""
        near = nearest(key, list(_leaf_keys(composed)))
        raise ConfigError(f"{key}: {_first_line(error)}{value}{near if 'not in' in str(error) else ''}") from error
    assert isinstance(config, Config)
    return config


def resolved_yaml(config: Config) -> str:
    """Returns the configuration as YAML text, every value resolved."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _composition_problem(error: Exception) -> str:
    """Says in one line what Hydra says in several."""
    line = _first_line(error)
    if line.startswith("Ambiguous value"):
        return f"{line}: add --multirun to run once for each value, or write key=[a,b] for a list"
    if line.startswith("Could not override"):
        return f"{line.rstrip('.')}: the groups chosen have no such setting"
    return line


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


@functools.cache
def _known_keys() -> tuple[str, ...]:
    """Returns every dotted key of the schema, and those of the shipped tables; Hydra has to be initialised."""
    return tuple(sorted({*_schema_keys(Config, prefix=""), *_leaf_keys(compose(CONFIG_NAME))}))


def _schema_keys(group: type, *, prefix: str) -> Iterator[str]:
    """Yields every dotted key of a settings class, with those of groups that may be null."""
    for field in dataclasses.fields(group):
        key = f"{prefix}{field.name}"
        yield key
        for kind in (field.type, *get_args(field.type)):
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and get_origin(field.type) is not dict:
                yield from _schema_keys(kind, prefix=f"{key}.")


def _leaf_keys(config: DictConfig, *, prefix: str = "") -> Iterator[str]:
    """Yields every dotted key, inner nodes included."""
    for name in config:
        key = f"{prefix}{name!s}"
        yield key
        child = None if OmegaConf.is_missing(config, name) else config._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _leaf_keys(child, prefix=f"{key}.")


def nearest(got: str, allowed: Sequence[str]) -> str:
    """Returns '; did you mean ...?' for the closest allowed spellings, or '' if none is close."""
    close = difflib.get_close_matches(got, sorted(set(allowed)), n=2, cutoff=0.6)
    if not close:  # the last part alone is often right, under another group
        last = got.rsplit(".", maxsplit=1)[-1]
        close = [key for key in allowed if key.rsplit(".", maxsplit=1)[-1] == last][:2]
    return f"; did you mean {' or '.join(close)}?" if close else ""


def check_overrides(overrides: Sequence[str], *, loader: ConfigLoader, known_keys: Sequence[str]) -> None:
    """Refuses overrides of unknown groups, options and keys before Hydra composes.

    Raises:
        ConfigError: naming the word, what is allowed and the nearest spelling.
    """
    groups = _group_names(loader)
    for text in overrides:
        try:
            (override,) = OverridesParser.create(config_loader=loader).parse_overrides([text])
        except HydraException as error:
            raise ConfigError(f"{text!r} is not of the form key=value: {_first_line(error)}") from error
        key = override.key_or_group
        if key.startswith("hydra") or override.is_delete():
            continue
        if key in groups:
            _check_options(override, allowed=loader.get_group_options(key), text=text)
        elif key not in known_keys:
            hint = nearest(key, [*known_keys, *groups])
            raise ConfigError(f"unknown setting {key!r}{hint} (python -m velm_train --help lists all)")


def _group_names(loader: ConfigLoader) -> list[str]:
    names = loader.list_groups("")
    return sorted(name for name in names if name != "hydra")


def _check_options(override: Override, *, allowed: Sequence[str], text: str) -> None:
    values = list(override.sweep_string_iterator()) if override.is_discrete_sweep() else [override.value()]
    for value in values:
        if not isinstance(value, str) or value not in allowed:
            hint = nearest(str(value), list(allowed))
            group = override.key_or_group
            raise ConfigError(f"{text!r}: {group} has no option {value!r}{hint}; allowed: {', '.join(allowed)}")


def experiment_names() -> list[str]:
    """Returns the shipped experiments."""
    return sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates Hydra's flags from overrides.

    Returns:
        (flags, overrides): words starting with "-" (and the value of a flag that takes one), and the rest.
    """
    takes_value = {
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--config-dir",
        "-cd",
        "--package",
        "-p",
        "--info",
        "-i",
        "--cfg",
        "-c",
    }
    flags: list[str] = []
    rest: list[str] = []
    pending = False
    for word in arguments:
        if pending or word.startswith("-"):
            flags.append(word)
            pending = not pending and word in takes_value
        else:
            rest.append(word)
    return flags, rest


def set_offline_environment() -> None:
    """Sets what libraries read at import: no telemetry prints, CPU as DeepSpeed's accelerator without a GPU."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
