"""Facts about the synthesis of the embedded textures set."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_gt_masks, read_rgb
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.core.taxonomy import read_taxonomy
from velm_train.datasets.defects import DEFECT_PAINTERS
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import index_images
from velm_train.datasets.manifests import SplitManifest, assert_no_leak
from velm_train.datasets.mvtec_style import find_mvtec_style
from velm_train.datasets.protocols import ProtocolSettings, k_shot_split
from velm_train.datasets.taxonomies import found_types, taxonomy_path
from velm_train.datasets.texture_specs import TEXTURES
from velm_train.datasets.textures import TextureCounts, expose, make_textures, photo_pieces, shoot

SIZE_HW = (64, 80)
COUNTS = TextureCounts(train_good=3, test_good=2, defects_seen=7, defects_unseen=3)
CATEGORIES = ("linen", "plaster", "vinyl_blue")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, mean in (("linen", 170), ("plaster", 150), ("vinyl_blue", 70)):
        pixels = np.random.default_rng(mean).normal(mean, 12, size=(260, 300, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def make(out: Path, photos: Path, *, counts: TextureCounts = COUNTS, seed: int = 0, **names: list[str]) -> None:
    seen, unseen = names.get("seen", ["linen", "plaster"]), names.get("unseen", ["vinyl_blue"])
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


def read(root: Path) -> list[ImageRecord]:
    found = find_mvtec_style(root, categories=[])
    index = FileIndex(None, num_threads=1)
    indexed = index_images(found, dataset="textures", index=index, on_bad_file="refuse", progress=SilentProgress())
    return list(indexed.records)


@pytest.fixture(scope="module")
def records(root: Path) -> list[ImageRecord]:
    return read(root)


def hashes(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): sha256_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_type_of_every_category_has_its_number_of_images_and_masks(records: list[ImageRecord]) -> None:
    assert all(record.size_hw == SIZE_HW for record in records)
    assert all((len(record.gt_mask_paths) == 1) == record.gt_label for record in records)
    expected = {(name, "train", "good"): 3 for name in CATEGORIES} | {(name, "test", "good"): 2 for name in CATEGORIES}
    for kind in DEFECT_PAINTERS:
        expected |= {("linen", "test", kind): 7, ("plaster", "test", kind): 7, ("vinyl_blue", "test", kind): 3}
    assert Counter((record.category, record.split, record.defect_type) for record in records) == expected


def test_masks_are_not_empty_and_fit(records: list[ImageRecord]) -> None:
    masks = [read_gt_masks(record.gt_mask_paths, size_hw=SIZE_HW) for record in records if record.gt_label]
    assert all(0.003 <= gt_mask.mean() <= 0.06 for gt_mask in masks)


def train_pieces(records: list[ImageRecord]) -> set[str]:
    return {record.group_id for record in records if record.split == "train"}


def test_a_group_is_one_of_thirty_pieces_of_the_category(records: list[ImageRecord]) -> None:
    names = {f"{category}/piece_{number:02d}" for category in CATEGORIES for number in range(30)}
    assert {record.group_id for record in records} <= names
    assert all(record.group_id.startswith(record.category) for record in records)


def test_every_normal_image_shows_a_piece_of_its_own(records: list[ImageRecord]) -> None:
    groups = [record.group_id for record in records if not record.gt_label]
    assert len(set(groups)) == len(groups) == 3 * (3 + 2)


def test_even_defects_of_seen_categories_show_train_pieces_and_odd_ones_test_pieces(records: list[ImageRecord]) -> None:
    for record in records:
        if record.gt_label and record.category != "vinyl_blue":
            is_even = int(record.image_path.stem) % 2 == 0
            assert (record.group_id in train_pieces(records)) == is_even


def test_all_defects_of_an_unseen_category_show_test_pieces(records: list[ImageRecord]) -> None:
    groups = {record.group_id for record in records if record.gt_label and record.category == "vinyl_blue"}
    assert len(groups) > 5
    assert groups.isdisjoint(train_pieces(records))


def test_same_seed_gives_the_same_bytes_and_another_seed_other_images(root: Path, photos: Path, tmp_path: Path) -> None:
    make(tmp_path / "again", photos)
    make(tmp_path / "other", photos, seed=1)
    assert hashes(tmp_path / "again") == hashes(root)
    ours, theirs = hashes(root), hashes(tmp_path / "other")
    assert all(ours[name] != theirs[name] for name in ours if "ground_truth" not in name)


def test_more_test_normals_and_defects_leave_earlier_images_as_they_are(
    root: Path, photos: Path, tmp_path: Path
) -> None:
    make(tmp_path, photos, counts=dataclasses.replace(COUNTS, test_good=4, defects_seen=9, defects_unseen=4))
    more = hashes(tmp_path)
    assert len(more) == len(hashes(root)) + 3 * 2 + 2 * (2 * 8 * 2 + 8)
    assert all(more[name] == value for name, value in hashes(root).items() if name != "groups.csv")
    assert set((root / "groups.csv").read_text().splitlines()) < set((tmp_path / "groups.csv").read_text().splitlines())


def test_a_category_does_not_depend_on_the_others(root: Path, photos: Path, tmp_path: Path) -> None:
    make(tmp_path, photos, seen=["plaster"], unseen=[])
    assert hashes(tmp_path / "plaster") == hashes(root / "plaster")


def test_a_photograph_that_is_too_small_is_refused_before_anything_is_written(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="texture 'linen': a piece of 43x60 photograph pixels is too small"):
        make(tmp_path, photos, size_hw=(192, 240))
    assert list(tmp_path.iterdir()) == []


def test_all_photographs_are_large_enough_for_the_default_size(assets) -> None:
    photos = assets.ensure("material_photos") / "images"
    for name, spec in TEXTURES.items():
        piece = photo_pieces(read_rgb(photos / f"{name}.png"), even_light=spec.even_light)[0]
        shoot(piece, photo_px_per_px=spec.photo_px_per_px, size_hw=(192, 240), rng=np.random.default_rng(0))


def test_sensor_noise_is_mild_and_grey() -> None:
    clean = np.full((72, 88, 3), 100.0, dtype=np.float32)
    noise = expose(clean, rng=np.random.default_rng(0)).astype(float) - 100.0
    assert 0.8 < noise.std() < 2.6
    assert np.array_equal(noise[..., 0], noise[..., 2])


def test_set_has_the_types_of_its_taxonomy(records: list[ImageRecord]) -> None:
    read_taxonomy(taxonomy_path("textures")).validate(found_types(records))


def split(records: list[ImageRecord], *, k_shot: int, num_validation_per_type: int = 0) -> SplitManifest:
    settings = ProtocolSettings(
        k_shot=k_shot,
        unseen_categories=("vinyl_blue",),
        num_reference=1,
        num_validation_per_type=num_validation_per_type,
        max_normals=0,
        max_test_per_type=0,
        calibration_fraction=0.0,
        test_normal_fraction=0.3,
        multi_label="leave_out",
        fold=0,
        num_folds=2,
        train_dataset=None,
    )
    return k_shot_split(records, settings, seed=0)


def roles(manifest: SplitManifest, category: str) -> dict[tuple[str, str], int]:
    return Counter((entry.defect_type, entry.role) for entry in manifest.entries if entry.category == category)


def test_four_shots_of_seven_leave_three_for_the_test_and_nothing_out(records: list[ImageRecord]) -> None:
    manifest = split(records, k_shot=4)
    normals = {("good", "reference"): 1, ("good", "train"): 2, ("good", "test"): 2}
    for category in ("linen", "plaster"):
        seen = {(kind, role): n for kind in DEFECT_PAINTERS for role, n in (("train", 4), ("test", 3))}
        assert roles(manifest, category) == normals | seen
    assert roles(manifest, "vinyl_blue") == normals | {(kind, "test"): 3 for kind in DEFECT_PAINTERS}
    assert manifest.left_out == ()
    assert assert_no_leak(manifest) == []


def test_four_shots_of_eight_leave_four_for_the_test_and_nothing_out(photos: Path, tmp_path: Path) -> None:
    make(tmp_path, photos, counts=dataclasses.replace(COUNTS, defects_seen=8), seen=["linen"])
    records = read(tmp_path)
    manifest = split(records, k_shot=4)
    found = roles(manifest, "linen")
    assert {(found[kind, "train"], found[kind, "test"]) for kind in DEFECT_PAINTERS} == {(4, 4)}
    assert manifest.left_out == ()


def test_a_split_keeps_train_and_test_pieces_apart(records: list[ImageRecord]) -> None:
    manifest = split(records, k_shot=2, num_validation_per_type=1)
    learnt = {entry.group_id for role in ("train", "reference") for entry in manifest.with_role(role)}
    assert learnt == train_pieces(records)
    assert {entry.group_id for role in ("validation", "test") for entry in manifest.with_role(role)}.isdisjoint(learnt)
    assert Counter(image.reason for image in manifest.left_out) == {"its group is on the train side": 2 * 8 * 2}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"seen": ["lnen"]}, "did you mean 'linen'"),
        ({"seen": ["linen"], "unseen": ["linen"]}, "asked for twice"),
        ({"seen": ["bamboo"]}, r"bamboo\.png does not exist"),
        ({"seen": [], "unseen": []}, "no texture is asked for"),
        ({"size_hw": (40, 88)}, "at least 64 pixels"),
    ],
)
def test_an_impossible_request_is_refused(photos: Path, tmp_path: Path, names: dict, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        make(tmp_path, photos, **names)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("train_good", "test_good", "expected"),
    [
        (0, 0, "train_good must be at least 1"),
        (1, -1, "the others at least 0"),
        (22, 9, "a photograph has 30"),
        (30, 0, "leave a piece for testing"),
    ],
)
def test_impossible_counts_are_refused(train_good: int, test_good: int, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        TextureCounts(train_good=train_good, test_good=test_good, defects_seen=0, defects_unseen=0)
