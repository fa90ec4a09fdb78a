"""A synthesised data set is readable, free of leaks, deterministic, and goes on after a kill."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_gt_masks, read_rgb, write_png
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import index_images
from velm_train.datasets.manifests import SplitManifest, assert_no_leak
from velm_train.datasets.mvtec_style import find_mvtec_style
from velm_train.datasets.protocols import ProtocolSettings, k_shot_split
from velm_train.datasets.synthesis import dataset
from velm_train.datasets.synthesis.dataset import synthesise
from velm_train.datasets.synthesis.plan import SynthesisSettings
from velm_train.datasets.synthesis.statement import JOURNAL_FILE, STATEMENT_FILE, Statement, read_statement

RECIPES = {
    "chipped": ("missing_part", "crack"),
    "misplaced_patch": ("cut_paste",),
    "scratch": ("scratch",),
    "wrong_pattern": ("poisson_blend",),
}
PER_TYPE = 5


def picture(seed: int, size_hw: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    values = 130 + 30 * np.sin(y / 2.3 + seed) * np.cos(x / 3.1) + rng.normal(0, 5, size_hw)
    return (values[..., None] * np.array([1.05, 0.95, 0.8])).clip(0, 255).astype(np.uint8)


def read(root: Path) -> tuple[ImageRecord, ...]:
    found = find_mvtec_style(root, categories=())
    index = FileIndex(None, num_threads=1)
    return index_images(found, dataset="p", index=index, on_bad_file="refuse", progress=SilentProgress()).records


@pytest.fixture(scope="module")
def goods(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageRecord, ...]:
    """Cloth without a test folder, and tile with one; their images have different sizes."""
    root = tmp_path_factory.mktemp("goods")
    for n in range(10):
        write_png(picture(n, (72, 100)), root / "cloth" / "train" / "good" / f"{n}.png")
        write_png(picture(50 + n, (90, 70)), root / "tile" / ("test" if n > 6 else "train") / "good" / f"{n}.png")
    return read(root)


def make(
    goods: tuple[ImageRecord, ...], out: Path, *, per_type: int = PER_TYPE, seed: int = 0, num_threads: int = 1
) -> Statement:
    settings = SynthesisSettings(per_type=per_type, foreground="auto", seed=seed)
    return synthesise(
        goods, out=out, recipes=RECIPES, settings=settings, num_threads=num_threads, progress=SilentProgress()
    )


@pytest.fixture(scope="module")
def root(goods, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    make(goods, out)
    return out


def hashes(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): sha256_file(path) for path in sorted(root.rglob("*")) if path.is_file()}


def split(root: Path, *, k_shot: int) -> SplitManifest:
    settings = ProtocolSettings(
        k_shot=k_shot,
        unseen_categories=(),
        num_reference=1,
        num_validation_per_type=0,
        max_normals=0,
        max_test_per_type=0,
        calibration_fraction=0.0,
        test_normal_fraction=0.3,
        multi_label="leave_out",
        fold=0,
        num_folds=2,
        train_dataset=None,
    )
    return k_shot_split(read(root), settings, seed=0)


def test_the_reader_of_mvtec_style_finds_every_type_with_its_masks(root, goods) -> None:
    records = read(root)
    counts = Counter((one.category, one.defect_type) for one in records if one.gt_label)
    assert counts == {(category, kind): PER_TYPE for category in ("cloth", "tile") for kind in RECIPES}
    splits = Counter((one.category, one.split) for one in records if not one.gt_label)
    # cloth: 3 of 10 become the test, 1 of the other 7 carries; tile: 3 are the test's already, 1 of 7 carries
    assert splits == {("cloth", "train"): 6, ("cloth", "test"): 3, ("tile", "train"): 6, ("tile", "test"): 3}
    for one in records:
        if one.gt_label:
            assert 0 < read_gt_masks(one.gt_mask_paths, size_hw=one.size_hw).mean() < 0.13


def test_outside_its_mask_every_defect_equals_its_source(root, goods) -> None:
    sources = {one.image_id: one for one in goods}
    for row in read_statement(root).defects:
        source = sources[row.source]
        inside = read_gt_masks([root / row.gt_mask], size_hw=source.size_hw)
        good, defect = read_rgb(source.image_path), read_rgb(root / row.image)
        assert np.array_equal(defect[~inside], good[~inside])
        assert (defect[inside] != good[inside]).any()
        assert (row.source_sha256, row.sha256) == (source.sha256, sha256_file(root / row.image))


def test_no_training_defect_lies_on_an_image_that_the_detector_knows(root) -> None:
    statement = read_statement(root)
    known = {row.source for row in statement.goods if "/train/" in row.image}
    tested = {row.source for row in statement.goods if "/test/" in row.image}
    for row in statement.defects:
        number = int(Path(row.image).stem)
        assert row.side == ("train" if number % 2 == 0 else "test")
        assert row.source not in known
        assert (row.source in tested) == (row.side == "test")


def test_a_protocol_trains_on_the_training_side_and_tests_on_the_other(root) -> None:
    manifest = split(root, k_shot=3)  # all of the training side: 5 images of a type, rounded up
    assert_no_leak(manifest)
    side = {f"p/{row.image}": row.side for row in read_statement(root).defects}
    roles = Counter((side[e.image_id], e.role) for e in manifest.entries if e.defect_type != "good")
    assert roles == {("train", "train"): 2 * 4 * 3, ("test", "test"): 2 * 4 * 2}
    with pytest.raises(DataError, match="4"):
        split(root, k_shot=4)


def test_training_defects_beyond_k_never_reach_the_test(root) -> None:
    manifest = split(root, k_shot=1)
    side = {f"p/{row.image}": row.side for row in read_statement(root).defects}
    tested = [entry.image_id for entry in manifest.with_role("test") if entry.defect_type != "good"]
    assert {side[image_id] for image_id in tested} == {"test"}


def test_good_images_are_the_users_own_bytes(root, goods) -> None:
    by_id = {one.image_id: one for one in goods}
    for row in read_statement(root).goods:
        assert (root / row.image).read_bytes() == by_id[row.source].image_path.read_bytes()


def test_the_same_arguments_give_the_same_bytes_with_any_number_of_threads(root, goods, tmp_path) -> None:
    make(goods, tmp_path / "again", num_threads=3)
    assert hashes(tmp_path / "again") == hashes(root)


def test_another_seed_gives_other_images(root, goods, tmp_path) -> None:
    make(goods, tmp_path / "other", seed=1)
    ours, theirs = hashes(root), hashes(tmp_path / "other")
    defects = [row.image for row in read_statement(root).defects]
    assert all(ours[name] != theirs[name] for name in defects)


def test_more_images_per_type_leave_earlier_ones_as_they_are(root, goods, tmp_path) -> None:
    make(goods, tmp_path / "more", per_type=PER_TYPE + 2)
    more = hashes(tmp_path / "more")
    own = {name: value for name, value in hashes(root).items() if name not in {STATEMENT_FILE, "groups.csv"}}
    assert len(more) == len(own) + 2 + 2 * 2 * 4 * 2
    assert all(more[name] == value for name, value in own.items())


def test_a_killed_run_goes_on_where_it_was(root, goods, tmp_path, monkeypatch) -> None:
    made: list[str] = []
    real = dataset.make_defect

    def until_killed(good: np.ndarray, **arguments: object) -> object:
        made.append("one")
        if len(made) == 13:
            raise KeyboardInterrupt
        return real(good, **arguments)

    out = tmp_path / "killed"
    out.mkdir()
    (out / ".synthesis.json.123.partial").write_text("{")  # of a kill before the first file was whole
    monkeypatch.setattr(dataset, "make_defect", until_killed)
    with pytest.raises(KeyboardInterrupt):
        make(goods, out)
    with pytest.raises(DataError, match="unfinished"):
        read_statement(out)
    with (out / JOURNAL_FILE).open("a") as stream:
        stream.write('\n{"image": "cut o')
    before = len(made)
    make(goods, out)
    assert len(made) - before <= 2 * 4 * PER_TYPE - 10  # of a type that was under way, up to two images are lost
    assert hashes(out) == hashes(root)


def test_a_finished_set_is_checked_and_not_made_again(goods, tmp_path, monkeypatch) -> None:
    first = make(goods, tmp_path / "out", per_type=1)
    monkeypatch.delattr(dataset, "make_defect")
    assert make(goods, tmp_path / "out", per_type=1) == first
    (tmp_path / "out" / first.defects[2].image).write_bytes(b"cut")
    with pytest.raises(DataError, match=f"{first.defects[2].image} is missing or damaged; delete"):
        make(goods, tmp_path / "out", per_type=1)


def test_a_folder_with_something_else_in_it_is_refused(root, goods, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"is not empty and holds no synthesis\.json"):
        make(goods, tmp_path)
    with pytest.raises(DataError, match="another per_type, seed; choose another folder"):
        make(goods, root, per_type=6, seed=4)


def test_a_type_that_cannot_be_seen_is_left_out_and_said_to_be(tmp_path) -> None:
    for n in range(5):
        grey = np.repeat(picture(n, (80, 96))[..., :1], 3, axis=2)
        write_png(grey, tmp_path / "goods" / "film" / "train" / "good" / f"{n}.png")
    settings = SynthesisSettings(per_type=2, foreground="whole", seed=0)
    out = tmp_path / "out"
    statement = synthesise(
        read(tmp_path / "goods"),
        out=out,
        recipes={"color": ("color",), "hole": ("hole",)},
        settings=settings,
        num_threads=2,
        progress=SilentProgress(),
    )
    assert [(one.category, one.defect_type) for one in statement.left_out] == [("film", "color")]
    assert {one.defect_type for one in read(out)} == {"good", "hole"}
    assert read_statement(out) == statement


def test_equal_file_names_of_several_folders_are_told_apart(tmp_path) -> None:
    records = []
    for n in range(6):
        path = tmp_path / "plain" / f"line{n}" / "shot.png"
        write_png(picture(n, (70, 90)), path)
        records.append(
            ImageRecord(
                image_id=f"p/lid/line{n}/shot.png",
                dataset="p",
                category="lid",
                split="train",
                defect_type="good",
                image_path=path,
                gt_mask_paths=(),
                sha256=sha256_file(path),
                group_id=f"lid{n}",
                size_hw=(70, 90),
            )
        )
    statement = make(tuple(records), tmp_path / "out", per_type=1)
    assert all(Path(row.image).name.startswith("line") for row in statement.goods if "/train/" in row.image)
    assert len({row.image for row in statement.goods}) == len(statement.goods) == 5
    groups = dict(line.split(",") for line in (tmp_path / "out" / "groups.csv").read_text().splitlines())
    assert groups["lid/test/scratch/000.png"] == "lid/training_carriers"
    assert {groups[row.image] for row in statement.goods} < {f"lid{n}" for n in range(6)}
    assert json.loads((tmp_path / "out" / STATEMENT_FILE).read_text())["request"]["recipes"]["scratch"] == ["scratch"]


def test_too_small_images_are_refused(goods, tmp_path) -> None:
    for n in range(5):
        write_png(picture(n, (60, 96)), tmp_path / "goods" / "film" / "train" / "good" / f"{n}.png")
    with pytest.raises(DataError, match="is 60x96; defects need at least 64 pixels"):
        make(read(tmp_path / "goods"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
