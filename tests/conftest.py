"""Fixtures shared by all tests: the real embedded assets, fetched once, and features of one view."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from velm_train.assets.library import AssetLibrary
from velm_train.core.batch import VisionEvidence
from velm_train.core.progress import SilentProgress


@pytest.fixture(scope="session")
def assets() -> AssetLibrary:
    root = Path(os.environ.get("VELM_ASSETS", Path.home() / ".cache" / "velm_train" / "assets"))
    return AssetLibrary(root, progress=SilentProgress())


@pytest.fixture(scope="session")
def one_tile() -> Callable[..., VisionEvidence]:
    """Makes the features of a view with one tile: final (N, Df), levels (L, N, Dl), map_scores (N,)."""

    def make(
        final: np.ndarray,
        levels: np.ndarray,
        map_scores: np.ndarray,
        *,
        grid_hw: tuple[int, int],
        gt_scores: np.ndarray | None = None,
    ) -> VisionEvidence:
        num_tokens = grid_hw[0] * grid_hw[1]
        return VisionEvidence(
            final=torch.from_numpy(final)[None],
            levels=torch.from_numpy(levels)[:, None],
            grid_hw=torch.tensor([grid_hw]),
            view_index=torch.zeros(1, dtype=torch.long),
            is_global=torch.ones(1, dtype=torch.bool),
            valid=(torch.arange(len(final)) < num_tokens)[None],
            map_scores=torch.from_numpy(map_scores)[None],
            gt_scores=None if gt_scores is None else torch.from_numpy(gt_scores)[None],
        )

    return make
