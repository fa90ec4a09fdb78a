"""One category of brick with four types, and findings on its images, which are wider than high."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from velm_train.core.records import ImageRecord, Region
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType
from velm_train.instructions.finding import Finding


@pytest.fixture
def category() -> CategoryTaxonomy:
    def defect(name: str, description: str, *synonyms: str) -> DefectType:
        return DefectType(display_name=name, description=description, synonyms=synonyms)

    return CategoryTaxonomy(
        noun="brick",
        normal_description="an even red face",
        defect_types={
            "crack": defect("crack", "a thin dark line", "fissure", "break"),
            "hole": defect("hole", "a round gap", "pit"),
            "color": defect("color spot", "an area of another color", "discoloration"),
            "scratch": defect("scratch", "", "scrape"),
        },
    )


def make_record(name: str, *, split: str, size_hw: tuple[int, int] = (90, 120)) -> ImageRecord:
    fingerprint = name.encode().hex()[:60].ljust(64, "0")
    return ImageRecord(
        image_id=f"textures/brick/{split}/{name}",
        dataset="textures",
        category="brick",
        split=split,
        defect_type=name.split("/", maxsplit=1)[0],
        image_path=Path(f"/data/{split}/{name}"),
        gt_mask_paths=(),
        sha256=fingerprint,
        group_id=name,
        size_hw=size_hw,
    )


def make_region(image_id: str, *, source: str = "detector") -> Region:
    return Region(
        image_id=image_id,
        box_xyxy=(80, 10, 100, 20),
        contour=np.array([[80, 10], [99, 10], [99, 19]], dtype=np.int32),
        area_px=150,
        peak_score=3.5,
        source=source,
    )


@pytest.fixture
def make_finding() -> Callable[..., Finding]:
    def make(
        answer: str | None = "crack",
        *,
        name: str = "crack/000.png",
        with_region: bool = True,
        with_reference: bool = True,
        region_source: str = "detector",
        region_index: int = 0,
    ) -> Finding:
        record = make_record(name, split="test")
        return Finding(
            record=record,
            region=make_region(record.image_id, source=region_source) if with_region else None,
            region_index=region_index,
            crop_box_xyxy=(70, 0, 110, 40) if with_region else None,
            reference=make_record("good/007.png", split="train", size_hw=(45, 60)) if with_reference else None,
            answer_defect_type=answer,
            gate_policy="detector",
        )

    return make
