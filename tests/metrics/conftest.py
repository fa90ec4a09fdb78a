"""A maker of prediction rows with everything that a test does not care about filled in."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from velm_train.core.records import Prediction

RowMaker = Callable[..., Prediction]


def make_prediction(
    image_id: str,
    gt: str | None,
    pred: str | None,
    *,
    category: str = "nut",
    group: str = "seen",
    flagged: bool | None = None,
    score: float = 0.0,
    options: dict[str, float] | None = None,
    seconds: dict[str, float] | None = None,
) -> Prediction:
    """Builds one row; unless said otherwise the gate flagged it iff the answer is not "good"."""
    return Prediction(
        image_id=image_id,
        category=category,
        group=group,
        gt_defect_type=gt,
        anomaly_score=score,
        p_value=0.5,
        pred_label=(pred != "good") if flagged is None else flagged,
        gate_policy="detector",
        option_log_likelihoods=options or {},
        pred_defect_type=pred,
        response="",
        region_boxes_xyxy=(),
        seconds=seconds or {},
        hashes={},
    )


@pytest.fixture
def row() -> RowMaker:
    """The maker of one row."""
    return make_prediction


@pytest.fixture
def random_rows() -> Callable[[int], list[Prediction]]:
    """A maker of labelled rows of two categories with random answers, scores and option likelihoods."""

    def make(seed: int, *, num_images: int = 240) -> list[Prediction]:
        rng = np.random.default_rng(seed)
        label_sets: dict[str, Sequence[str]] = {"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}
        rows = []
        for i in range(num_images):
            category = ("nut", "tile")[i % 2]
            labels = [*label_sets[category], "good"]
            gt = labels[i // 2 % len(labels)]
            pred = gt if rng.random() < 0.6 else labels[rng.integers(len(labels))]
            options = dict(zip(labels, rng.normal(size=len(labels)).round(1).tolist(), strict=True))
            flagged = pred != "good" or bool(rng.random() < 0.5)
            score = float(rng.normal() + (gt != "good"))
            rows.append(
                make_prediction(
                    f"{i:04d}",
                    gt,
                    pred,
                    category=category,
                    group=("seen", "unseen")[i % 2],
                    flagged=flagged,
                    score=score,
                    options=options if flagged else {},
                    seconds={"detect": 0.1 * (i % 3), "answer": 1.0},
                )
            )
        return rows

    return make
