"""A finished run's folder in, its settings out, with the folders and devices that there are on this machine."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from velm_train.cli.compose import load_config, typed
from velm_train.config import Config
from velm_train.config.data import PathsConfig
from velm_train.core.errors import ArtifactError, ConfigError

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
ADAPTER_FOLDER = "adapter"


def read_run_config(folder: Path, *, needed: Sequence[str]) -> Config:
    """Reads the settings of a finished run; where there is no GPU, everything is computed on the CPU.

    Args:
        folder: that the run left.
        needed: files of it that have to be there besides the settings.

    Raises:
        ArtifactError: if it is not the folder of a finished run, or of another version.
    """
    if not folder.is_dir():
        raise ArtifactError(
            f"ckpt={folder} is not there; name the folder of a finished run, such as "
            "outputs/runs/textures/2026-01-31_12-00-00"
        )
    missing = [name for name in (CONFIG_FILE, *needed) if not (folder / name).is_file()]
    if missing:
        raise ArtifactError(
            f"ckpt={folder} lacks {', '.join(missing)}: name the folder of a finished run; a run of an older version "
            "is repeated with its own words, which reuses its finished stages"
        )
    config = _read_settings(folder / CONFIG_FILE)
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        logger.warning("the run was made on a GPU and there is none here; everything is computed on the CPU")
        return dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, accelerator="cpu"))
    return config


def with_folders(config: Config, *, here: PathsConfig) -> Config:
    """Returns a run's settings with folders that exist.

    Args:
        config: of the run.
        here: folders of this command; each takes the place of the run's own where that does not exist.
    """
    own = dataclasses.asdict(config.paths)
    known = {name: own[name] if Path(own[name]).expanduser().is_dir() else getattr(here, name) for name in own}
    return dataclasses.replace(config, paths=PathsConfig(**known))


def _read_settings(path: Path) -> Config:
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
