"""Fixtures shared by all tests: the real embedded assets, fetched once, features of one view, calibrated answers."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from velm_train.assets.library import AssetLibrary
from velm_train.core.answer_scores import (
    AnswerPolicy,
    CostMatrix,
    OperatingPoint,
    SetPolicy,
    SortPolicy,
    Temperature,
)
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


@pytest.fixture(scope="session")
def operating_point() -> Callable[[float | None], OperatingPoint]:
    """Makes an operating point that acts on answers from a probability on; None for none of them."""

    def make(min_confidence: float | None) -> OperatingPoint:
        return OperatingPoint(
            costs=CostMatrix(missed_defect=1.0, false_alarm=1.0, wrong_type=1.0, human_look=1.0),
            defect_share=0.1,
            min_confidence=min_confidence,
            expected_cost=0.0,
            num_defects=1,
            num_false_alarms=1,
            note="",
        )

    return make


@pytest.fixture(scope="session")
def answer_policy() -> Callable[..., AnswerPolicy]:
    """Makes a calibration of the answers about one category."""

    def make(
        *,
        temperature: float,
        category: str = "cable",
        sets: SetPolicy | None = None,
        point: OperatingPoint | None = None,
    ) -> AnswerPolicy:
        return AnswerPolicy(
            categories=(category,),
            temperature=Temperature(value=temperature, num_rows=9, nll_before=1.0, nll_after=0.9),
            sets=sets,
            sets_note="",
            sorting=SortPolicy(
                max_error=0.1,
                confidence=0.9,
                min_log_odds=None,
                all_kept=False,
                num_answers=0,
                num_kept=0,
                num_errors=0,
                note="too few",
            ),
            operating_point=point,
            operating_note="",
            num_rows=9,
            num_parts=9,
        )

    return make
