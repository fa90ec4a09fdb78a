"""Facts about finding one picture in several files."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.datasets.audit.near_duplicates import OTHER, TEST, TRAIN, find_near_duplicates

NUM_PARTS = 24


def small(image: np.ndarray) -> np.ndarray:
    grey = Image.fromarray(np.ascontiguousarray(image)).convert("L")
    return np.asarray(grey.resize((64, 64), Image.Resampling.BILINEAR))


def jpeg(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=50)
    return np.asarray(Image.open(stream))


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    size_wh = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.BICUBIC))


def relit(image: np.ndarray, *, gain: float, offset: float) -> np.ndarray:
    return ((image - image.mean()) * gain + image.mean() + offset).clip(0, 255).astype(np.uint8)


CHANGES = {
    "compressed": jpeg,
    "at 60 %": lambda image: resized(image, 0.6),
    "at 140 %": lambda image: resized(image, 1.4),
    "cropped by 3 % at the left top": lambda image: image[3:, 4:],
    "cropped by 3 % at the right bottom": lambda image: image[:-3, :-4],
    "brighter": lambda image: relit(image, gain=1.0, offset=25.0),
    "of less contrast": lambda image: relit(image, gain=0.75, offset=0.0),
    "all of it": lambda image: jpeg(relit(resized(image[2:-1, 1:-3], 0.7), gain=1.15, offset=-10.0)),
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1, ::-1],
    "turned": np.rot90,
    "turned and mirrored": lambda image: np.rot90(image)[::-1],
}


@pytest.fixture
def parts(make_part) -> list[np.ndarray]:
    return [make_part("bolt", i) for i in range(NUM_PARTS)]


def search(images: list[np.ndarray], sides: list[int]) -> list[tuple[int, int]]:
    advanced: list[int] = []
    pairs = find_near_duplicates(
        np.stack([small(image) for image in images]),
        categories=["bolt"] * len(images),
        sides=sides,
        advance=advanced.append,
    )
    assert sum(advanced) == sum(side != OTHER for side in sides)
    return [(pair.first, pair.second) for pair in pairs]


def test_different_parts_in_one_place_are_not_copies(parts) -> None:
    assert search(parts, [TRAIN, TEST] * (NUM_PARTS // 2)) == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(parts, change: str) -> None:
    copy = CHANGES[change](parts[5])
    assert search([*parts, copy], [TRAIN] * NUM_PARTS + [TEST]) == [(5, NUM_PARTS)]


def test_a_copy_with_a_scratch_on_it_is_found(parts) -> None:
    copy = parts[5].copy()
    copy[20:22, 30:80] = 30  # a scratch
    assert search([*parts, copy], [TRAIN] * NUM_PARTS + [TEST]) == [(5, NUM_PARTS)]


def test_one_dark_spot_does_not_make_two_parts_alike(parts) -> None:
    for place in (3, 4, 9):
        parts[place][30:48, 60:80] = 10
    assert search(parts, [TRAIN, TEST] * (NUM_PARTS // 2)) == []


def test_uniform_pictures_are_not_compared() -> None:
    flat = [np.full((30, 40, 3), value, dtype=np.uint8) for value in (10, 90, 90, 200)]
    assert search(flat, [TRAIN, TEST, TRAIN, TEST]) == []


def test_other_data_is_compared_with_what_is_tested_only(parts) -> None:
    images = [*parts, jpeg(parts[0]), jpeg(parts[1])]
    sides = [TRAIN, TEST] * (NUM_PARTS // 2) + [OTHER, OTHER]
    assert search(images, sides) == [(1, NUM_PARTS + 1)]


def test_pairs_tell_turned_copies(parts) -> None:
    images = [*parts, parts[5][:, ::-1], jpeg(parts[6])]
    pairs = find_near_duplicates(
        np.stack([small(image) for image in images]),
        categories=["bolt"] * len(images),
        sides=[TRAIN] * NUM_PARTS + [TEST, TEST],
        advance=lambda units: None,
    )
    assert [(pair.first, pair.turned, pair.correlation > 0.9) for pair in pairs] == [(5, True, True), (6, False, True)]


def test_thresholds_are_documented_by_a_benchmark() -> None:
    script = Path(__file__).parents[3] / "experiments" / "benchmarks" / "near_duplicates.py"
    assert "find_near_duplicates" in script.read_text()
