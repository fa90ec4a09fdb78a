"""Facts about the synthesis of the embedded textures set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_gt_mask, read_rgb
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.defects import DEFECT_PAINTERS
from velm_train.datasets.manifests import assert_no_leak
from velm_train.datasets.mvtec_style import read_mvtec_style
from velm_train.datasets.protocols import k_shot_manifest
from velm_train.datasets.textures import TextureCounts, expose, make_textures, photo_parts, shoot

SIZE_HW = (72, 88)
COUNTS = TextureCounts(train_good=3, test_good=2, defects_seen=6, defects_unseen=2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, mean in (("granite", 150), ("linen", 170), ("vinyl_blue", 70)):
        pixels = rng.normal(mean, 12, size=(260, 300, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def make(out: Path, photos: Path, *, counts: TextureCounts = COUNTS, seed: int = 0, **names: list[str]) -> None:
    seen, unseen = names.get("seen", ["granite", "linen"]), names.get("unseen", ["vinyl_blue"])
    make_textures(
        out,
        photos=photos,
        seen=seen,
        unseen=unseen,
        size_hw=names.get("size_hw", SIZE_HW),
        counts=counts,
        seed=seed,
        progress=SilentProgress(),
    )


@pytest.fixture(scope="module")
def root(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("textures")
    make(root, photos)
    return root


@pytest.fixture(scope="module")
def records(root: Path) -> list[ImageRecord]:
    return read_mvtec_style(root, dataset="textures", categories=[], progress=SilentProgress())


def hashes(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): sha256_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_type_of_every_category_has_its_number_of_images_and_masks(records: list[ImageRecord]) -> None:
    counts: dict[tuple[str, str, str], int] = {}
    for record in records:
        key = (record.category, record.split, record.defect_type)
        counts[key] = counts.get(key, 0) + 1
        assert record.size_hw == SIZE_HW
        assert (record.gt_mask_path is not None) == record.gt_label
    expected = {(name, "train", "good"): 3 for name in ("granite", "linen", "vinyl_blue")}
    expected |= {(name, "test", "good"): 2 for name in ("granite", "linen", "vinyl_blue")}
    for kind in DEFECT_PAINTERS:
        expected |= {("granite", "test", kind): 6, ("linen", "test", kind): 6, ("vinyl_blue", "test", kind): 2}
    assert counts == expected


def test_masks_are_not_empty_and_fit(records: list[ImageRecord]) -> None:
    for record in records:
        if record.gt_mask_path is not None:
            assert 0.003 <= read_gt_mask(record.gt_mask_path, size_hw=record.size_hw).mean() <= 0.06


def test_even_defects_and_training_normals_are_of_the_left_part(records: list[ImageRecord]) -> None:
    for record in records:
        number = int(record.image_path.stem)
        left = record.split == "train" or (record.gt_label and number % 2 == 0)
        assert record.group_id == f"{record.category}/{'left' if left else 'right'}"


def test_same_seed_gives_the_same_bytes_and_another_seed_other_images(root: Path, photos: Path, tmp_path: Path) -> None:
    make(tmp_path / "again", photos)
    make(tmp_path / "other", photos, seed=1)
    assert hashes(tmp_path / "again") == hashes(root)
    ours, theirs = hashes(root), hashes(tmp_path / "other")
    assert all(ours[name] != theirs[name] for name in ours if name != "groups.csv" and "ground_truth" not in name)


def test_a_larger_count_leaves_earlier_images_as_they_are(root: Path, photos: Path, tmp_path: Path) -> None:
    make(tmp_path, photos, counts=TextureCounts(train_good=4, test_good=2, defects_seen=7, defects_unseen=2))
    more = hashes(tmp_path)
    assert all(more[name] == value for name, value in hashes(root).items() if name != "groups.csv")


def test_the_parts_of_a_photograph_share_no_pixel() -> None:
    rows, columns = np.mgrid[:120, :201]
    photo = np.stack([rows, columns, rows + columns - 100], axis=2).clip(0, 255).astype(np.uint8)
    parts = photo_parts(photo, even_light=False)
    left, right = ({int(x) for x in parts[side][..., 1].ravel()} for side in ("left", "right"))
    assert left.isdisjoint(right)
    assert max(left) < 100 < min(right)
    assert len(left) > 90
    assert len(right) > 90


def test_a_shot_depends_on_its_own_part_alone() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, size=(150, 240, 3), dtype=np.uint8)
    repainted = photo.copy()
    repainted[:, 122:] = 0
    for side, equal in (("left", True), ("right", False)):
        shots = [
            shoot(
                photo_parts(picture, even_light=False)[side],
                photo_px_per_px=1.0,
                size_hw=(70, 80),
                rng=np.random.default_rng(3),
            )
            for picture in (photo, repainted)
        ]
        assert np.array_equal(*shots) == equal


def test_even_light_makes_both_parts_equally_bright() -> None:
    slope = np.linspace(60, 180, 240)[None, :, None]
    photo = np.broadcast_to(slope, (150, 240, 3)).astype(np.uint8)
    parts = photo_parts(photo, even_light=True)
    assert abs(float(parts["left"].mean()) - float(parts["right"].mean())) < 3.0
    assert parts["left"].std() < 8.0


def test_a_tiny_part_is_continued_by_mirror_images() -> None:
    part = np.random.default_rng(0).integers(0, 256, size=(30, 20, 3), dtype=np.uint8)
    shot = shoot(part, photo_px_per_px=1.0, size_hw=(72, 88), rng=np.random.default_rng(0))
    assert shot.shape == (72, 88, 3)
    assert shot.std() > 20.0


def test_sensor_noise_is_mild_and_grey() -> None:
    clean = np.full((72, 88, 3), 100.0, dtype=np.float32)
    noise = expose(clean, rng=np.random.default_rng(0)).astype(float) - 100.0
    assert 0.8 < noise.std() < 2.6
    assert np.array_equal(noise[..., 0], noise[..., 2])


def test_images_of_a_category_differ(root: Path) -> None:
    first, second = (read_rgb(root / f"granite/train/good/00{number}.png") for number in (0, 1))
    assert not np.array_equal(first, second)


def test_k_shot_split_of_the_set_keeps_the_parts_apart(records: list[ImageRecord]) -> None:
    manifest = k_shot_manifest(
        records,
        k_shot=2,
        unseen_categories=["vinyl_blue"],
        num_reference=1,
        num_validation_per_type=1,
        max_normals=0,
        max_test_per_type=0,
        calibration_fraction=0.0,
        test_normal_fraction=0.3,
        seed=0,
    )
    assert assert_no_leak(manifest) == []
    assert {entry.group_id.split("/")[1] for entry in manifest.with_role("train")} == {"left"}
    assert {entry.group_id.split("/")[1] for entry in manifest.with_role("test")} == {"right"}
    assert len(manifest.with_role("train")) == 3 * 2 + 2 * 8 * 2
    assert len(manifest.with_role("validation")) == 2 * 8
    assert len(manifest.with_role("test")) == 3 * 2 + 2 * 8 * 2 + 8
    assert {image.reason for image in manifest.left_out} == {"its group is on the train side"}
    assert len(manifest.left_out) == 2 * 8 + 8


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"seen": ["granit"]}, "did you mean 'granite'"),
        ({"seen": ["granite"], "unseen": ["granite"]}, "asked for twice"),
        ({"seen": ["bamboo"]}, r"bamboo\.png does not exist"),
        ({"seen": [], "unseen": []}, "no texture is asked for"),
        ({"size_hw": (40, 88)}, "at least 64 pixels"),
    ],
)
def test_an_impossible_request_is_refused(photos: Path, tmp_path: Path, names: dict, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        make(tmp_path, photos, **names)
    assert list(tmp_path.iterdir()) == []


def test_negative_counts_are_refused() -> None:
    with pytest.raises(DataError, match="train_good must be at least 1"):
        TextureCounts(train_good=0, test_good=0, defects_seen=0, defects_unseen=0)
