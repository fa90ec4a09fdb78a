"""Thumbnails: which are chosen, what is said of damaged ones, and how much room they take."""

from pathlib import Path

import numpy as np

from velm_train.cli.preview_images import choose, make_thumbnails
from velm_train.core.images import write_png
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.reporting.preview_content import PreviewContent, count_categories, count_images
from velm_train.reporting.preview_page import render_preview_page

SIZE_HW = (60, 100)


def put(path: Path, pixels: np.ndarray) -> Path:
    write_png(pixels, path)
    return path


def record(number: int, *, category: str, kind: str, path: Path, size_hw: tuple[int, int]) -> ImageRecord:
    return ImageRecord(
        image_id=f"set/{category}/{kind}/{number:05d}.png",
        dataset="set",
        category=category,
        split="test",
        defect_type=kind,
        image_path=path,
        gt_mask_paths=(),
        sha256=f"{number:064d}",
        group_id=f"{category}/{kind}/{number}",
        size_hw=size_hw,
    )


def test_page_of_ten_thousand_images_stays_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (220, 230, 3), dtype=np.uint8)  # as large as a JPEG gets
    path = put(tmp_path / "noise.png", noise)
    kinds = [(f"category {i}", f"type {k}") for i in range(20) for k in range(25)]
    records = [
        record(n, category=category, kind=kind, path=path, size_hw=(220, 230))
        for category, kind in kinds
        for n in range(20)
    ]
    assert len(records) == 10_000
    thumbnails = make_thumbnails(records, roles={}, num_per_type=20, seed=0, progress=SilentProgress())
    page = render_preview_page(
        PreviewContent(
            title="many",
            subtitle="",
            notices=(),
            with_roles=False,
            counts=count_images(records, roles={}),
            categories=count_categories(records, roles={}, unseen=[]),
            thumbnails=thumbnails,
            left_out=(),
            excluded=(),
            samples=None,
            config_yaml="",
        )
    )
    assert 5_000_000 < len(page.encode()) < 15_000_000
    assert all(f"<h3>category {i}</h3>" in page for i in range(20))
    assert page.count("<h4>type 24<") == 20


def test_every_type_is_drawn_once_before_any_is_drawn_twice(tmp_path: Path) -> None:
    path = put(tmp_path / "part.png", np.full((*SIZE_HW, 3), 90, dtype=np.uint8))
    records = [
        record(n, category="nut", kind=kind, path=path, size_hw=SIZE_HW) for kind in ("cut", "good") for n in range(9)
    ]
    chosen = choose(records, num_per_type=3, seed=4)
    assert [one.defect_type for one in chosen] == 3 * ["cut", "good"]
    assert len({one.image_id for one in chosen}) == 6
    assert chosen == choose(records[::-1], num_per_type=3, seed=4)
    assert chosen[:4] == choose(records, num_per_type=2, seed=4)
    assert chosen != choose(records, num_per_type=3, seed=5)
    whole = make_thumbnails(records, roles={}, num_per_type=3, seed=4, progress=SilentProgress())
    one_uri = len(whole["nut", "cut"][0].uri)
    cut = make_thumbnails(
        records, roles={}, num_per_type=3, seed=4, progress=SilentProgress(), max_bytes=3 * one_uri + 1
    )
    assert {kind: len(members) for kind, members in cut.items()} == {("nut", "cut"): 2, ("nut", "good"): 1}


def test_image_that_breaks_after_reading_is_said_and_not_fatal(tmp_path: Path) -> None:
    path = tmp_path / "torn.png"
    path.write_bytes(b"no picture")
    records = [record(0, category="nut", kind="cut", path=path, size_hw=SIZE_HW)]
    ((thumb,),) = make_thumbnails(records, roles={}, num_per_type=1, seed=0, progress=SilentProgress()).values()
    assert thumb.uri == ""
    assert "cannot be read" in thumb.note
