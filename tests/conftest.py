"""Fixtures shared by all tests: the real embedded assets, fetched once."""

import os
from pathlib import Path

import pytest

from velm_train.assets.library import AssetLibrary
from velm_train.core.progress import SilentProgress


@pytest.fixture(scope="session")
def assets() -> AssetLibrary:
    root = Path(os.environ.get("VELM_ASSETS", Path.home() / ".cache" / "velm_train" / "assets"))
    return AssetLibrary(root, progress=SilentProgress())
