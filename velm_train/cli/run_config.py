"""A finished run's folder in, its settings out, with folders that exist on this machine."""

import dataclasses
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from velm_train.cli.compose import load_config, typed
from velm_train.config import Config
from velm_train.config.data import PathsConfig
from velm_train.core.errors import ArtifactError, ConfigError
from velm_train.models.weight_files import MANIFEST_NAME

CONFIG_FILE = "config.yaml"
ADAPTER_FOLDER = "adapter"


def read_run_config(folder: Path, *, here: PathsConfig) -> Config:
    """Reads the settings of a finished run.

    Args:
        folder: that `task=run` left.
        here: folders of this command; each takes the place of the run's own where that does not exist.

    Raises:
        ArtifactError: if it is not the folder of a finished run, or of another version.
    """
    for name in (CONFIG_FILE, f"{ADAPTER_FOLDER}/{MANIFEST_NAME}"):
        if not (folder / name).is_file():
            raise ArtifactError(
                f"ckpt={folder} is not the folder of a finished run: {name} is missing; name one that task=run left, "
                "such as outputs/runs/textures/2026-01-31_12-00-00"
            )
    config = read_settings(folder / CONFIG_FILE)
    own = dataclasses.asdict(config.paths)
    known = {name: own[name] if Path(own[name]).expanduser().is_dir() else getattr(here, name) for name in own}
    return dataclasses.replace(config, paths=PathsConfig(**known))


def read_settings(path: Path) -> Config:
    """Reads a run's settings; whole groups that came later, of other tasks, are as they are today.

    Raises:
        ArtifactError: if the file is absent or of another version.
    """
    try:
        loaded = OmegaConf.load(path)
        if not isinstance(loaded, DictConfig):
            raise ConfigError("it holds no settings")
        today = OmegaConf.structured(load_config([]))
        younger = [name for name in today if name not in loaded]
        merged = OmegaConf.merge(OmegaConf.masked_copy(today, younger), loaded)
        assert isinstance(merged, DictConfig)
        return typed(merged)
    except (OSError, YAMLError, OmegaConfBaseException, ConfigError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{path} cannot be read by this version ({reason}); repeat the run") from error
