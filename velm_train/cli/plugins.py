"""Launchers and sweepers of this program in; Hydra knows them as `hydra_plugins.velm_train.<class>` afterwards."""

import importlib
import sys
from types import ModuleType

from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin

from velm_train.cli.launch.launchers import ProcessLauncher, SlurmLauncher
from velm_train.cli.optuna_sweeper import OptunaSweeper

NAMESPACE, NAME = "hydra_plugins", "velm_train"

PLUGINS: tuple[type[Plugin], ...] = (OptunaSweeper, ProcessLauncher, SlurmLauncher)


def register_plugins() -> None:
    """Makes `hydra/sweeper=optuna` and the launchers known to Hydra; to be called before it composes.

    Hydra takes no plugin whose class cannot be found below `hydra_plugins`. A package of that name would be imported by
    every Hydra program of the environment; so there is a module of that name in this process alone.
    """
    module = ModuleType(f"{NAMESPACE}.{NAME}")
    for plugin in PLUGINS:
        plugin.__module__ = module.__name__
        setattr(module, plugin.__name__, plugin)
        Plugins.instance().register(plugin)
    setattr(_namespace(), NAME, module)
    sys.modules[module.__name__] = module


def _namespace() -> ModuleType:
    """Returns the package that holds the plugins of the environment, or one made here where there are none."""
    try:
        return importlib.import_module(NAMESPACE)
    except ModuleNotFoundError:
        sys.modules[NAMESPACE] = ModuleType(NAMESPACE)
        return sys.modules[NAMESPACE]
