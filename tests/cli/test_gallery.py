"""The gallery is a bounded, even sample; the view that was looked at twice is told from the others."""

from pathlib import Path

import numpy as np
import pytest

from velm_train.cli.gallery import IMAGES_PER_OUTCOME, choose_shown
from velm_train.cli.second_looks import looked_at
from velm_train.core.records import Prediction, View
from velm_train.metrics.table import make_table


def row(image_id: str, pred: str | None, *, category: str) -> Prediction:
    return Prediction(
        image_id=image_id,
        category=category,
        group="seen",
        gt_defect_type="cut",
        anomaly_score=1.0,
        p_value=0.5,
        pred_label=True,
        gate_policy="detector",
        option_log_likelihoods={},
        pred_defect_type=pred,
        response="",
        region_boxes_xyxy=(),
        seconds={},
        hashes={},
    )


def view(kind: str) -> View:
    return View(
        kind=kind,
        image_id="a",
        image_path=Path("a.png"),
        sha256="0" * 64,
        box_xyxy=(0, 0, 8, 6),
        contour=np.zeros((0, 2), dtype=np.int64),
    )


def test_gallery_is_spread_over_all_categories_and_starts_with_errors() -> None:
    categories = [f"c{number}" for number in range(6)]
    rows = [row(f"{name}/{i:02d}", "cut", category=name) for name in categories for i in range(10)]
    rows.append(row("c0/99", None, category="c0"))
    shown = choose_shown(make_table(rows, label_sets=dict.fromkeys(categories, ("cut",))))
    assert next(iter(shown.items())) == ("c0/99", "no name")
    named = [image_id for image_id, outcome in shown.items() if outcome == "named right"]
    assert len(named) == IMAGES_PER_OUTCOME
    assert {image_id.split("/")[0] for image_id in named} == set(categories)


def test_fewer_images_than_places_are_all_shown() -> None:
    rows = [row(f"n/{i}", "cut", category="n") for i in range(3)]
    assert list(choose_shown(make_table(rows, label_sets={"n": ("cut",)}))) == ["n/0", "n/1", "n/2"]


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [(["reference", "query_contour", "crop"], 2), (["query", "reference"], 0), (["crop", "query"], 0)],
)
def test_the_crop_is_looked_at_or_else_the_image_itself_but_never_the_reference(kinds: list[str], chosen: int) -> None:
    views = [view(kind) for kind in kinds]
    assert looked_at(views) is views[chosen]
