"""Facts about the published splits in data/splits and their files."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.datasets.split_drawing import K_SHOTS, NUM_CATEGORY_FOLDS, NUM_TYPE_FOLDS, SEEDS, draw_splits
from velm_train.datasets.split_files import (
    LEFT_OUT,
    SplitFile,
    read_classes,
    read_split,
    split_names,
    split_path,
)

FOLDER = Path(__file__).parents[2] / "data" / "splits"
DATASETS = ("mvtec_ac", "visa_ac")
TOTALS = {"mvtec_ac": (1142, 64, 455), "visa_ac": (929, 50, 962)}
"""Anomalous images, classes and normal test images (VELM, arXiv 2505.02626)."""


def load(name: str) -> SplitFile:
    return read_split(split_path(name))


def chosen(split: SplitFile, role: str) -> set[tuple[str, str, int]]:
    return {
        (category, kind, number)
        for category, body in split.images.items()
        for kind, roles in body.items()
        if role in roles and kind != "good"
        for number in roles[role]
    }


@pytest.mark.parametrize("dataset", DATASETS)
def test_lists_hold_the_published_numbers_of_images(dataset: str) -> None:
    listed = read_classes(dataset)
    defects = [numbers for body in listed.values() for kind, numbers in body.items() if kind != "good"]
    assert (sum(map(len, defects)), len(defects), sum(len(body["good"]) for body in listed.values())) == TOTALS[dataset]
    assert all(len(set(numbers)) == len(numbers) for numbers in defects)


def test_committed_splits_are_those_that_are_drawn(tmp_path: Path) -> None:
    drawn = list(draw_splits({dataset: read_classes(dataset) for dataset in DATASETS}))
    assert sorted(split.name for split in drawn) == list(split_names())
    for split in drawn:
        split.save(tmp_path / "drawn.json")
        assert (tmp_path / "drawn.json").read_bytes() == (FOLDER / f"{split.name}.json").read_bytes()
        assert read_split(tmp_path / "drawn.json") == split


def test_all_files_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.json")) < 1_000_000


@pytest.mark.parametrize("name", split_names())
def test_every_split_holds_every_image_once(name: str) -> None:
    split = load(name)
    assert split.name == name
    listed = {category: body for dataset in split.datasets for category, body in read_classes(dataset).items()}
    held = {
        category: {kind: tuple(sorted(itertools.chain(*roles.values()))) for kind, roles in body.items()}
        for category, body in split.images.items()
    }
    assert held == {category: {kind: tuple(sorted(n)) for kind, n in body.items()} for category, body in listed.items()}


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("seed", SEEDS)
def test_shots_are_k_of_each_class_and_nested(dataset: str, seed: int) -> None:
    shots = [chosen(load(f"{dataset}/p1_k{k}_seed{seed}"), "train") for k in K_SHOTS]
    for k, one in zip(K_SHOTS, shots, strict=True):
        assert set(Counter((category, kind) for category, kind, _ in one).values()) == {k}
    assert shots[0] < shots[1] < shots[2] < chosen(load(f"{dataset}/p2_seed{seed}"), "train")


@pytest.mark.parametrize("dataset", DATASETS)
def test_seeds_choose_other_images(dataset: str) -> None:
    shots = [frozenset(chosen(load(f"{dataset}/p1_k1_seed{seed}"), "train")) for seed in SEEDS]
    assert len(set(shots)) == len(SEEDS)


@pytest.mark.parametrize("dataset", DATASETS)
def test_zero_shot_tests_every_image(dataset: str) -> None:
    split = load(f"{dataset}/p0")
    assert {role for body in split.images.values() for roles in body.values() for role in roles} == {"test"}
    assert split.unseen_categories == tuple(sorted(split.images))


@pytest.mark.parametrize("dataset", DATASETS)
def test_category_folds_test_every_category_once(dataset: str) -> None:
    folds = [load(f"{dataset}/p3_fold{fold}") for fold in range(NUM_CATEGORY_FOLDS)]
    assert sorted(name for split in folds for name in split.unseen_categories) == sorted(read_classes(dataset))
    for split in folds:
        assert {category for category, _, _ in chosen(split, "test")} == set(split.unseen_categories)
        seen = set(split.images) - set(split.unseen_categories)
        assert all(set(split.images[category]["good"]) == {LEFT_OUT} for category in seen)


@pytest.mark.parametrize("dataset", DATASETS)
def test_type_folds_make_every_type_unknown_at_least_once(dataset: str) -> None:
    folds = [load(f"{dataset}/p5_fold{fold}") for fold in range(NUM_TYPE_FOLDS)]
    unknown = {(category, kind) for split in folds for category, kinds in split.unknown_types.items() for kind in kinds}
    assert unknown == {(c, kind) for c, body in read_classes(dataset).items() for kind in body if kind != "good"}
    for split in folds:
        trained = {(category, kind) for category, kind, _ in chosen(split, "train")}
        assert trained.isdisjoint((c, kind) for c, kinds in split.unknown_types.items() for kind in kinds)


@pytest.mark.parametrize(("tested", "trained"), [DATASETS, DATASETS[::-1]])
def test_cross_dataset_trains_on_all_of_one_and_tests_all_of_the_other(tested: str, trained: str) -> None:
    split = load(f"{tested}/p4_from_{trained}")
    assert len(chosen(split, "train")) == TOTALS[trained][0]
    assert len(chosen(split, "test")) == TOTALS[tested][0]
    assert set(split.unseen_categories) == set(read_classes(tested))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("visa_ac/p1_k3_seed0", "did you mean 'visa_ac/p1_k"),
        ("visa_ac/zzzzzzzzzzzzzzzzzz", "; known: visa_ac/p0, visa_ac/p1_k1_seed0, "),
        ("mpdd/x", "; known: mvtec_ac/..., visa_ac/..."),
    ],
)
def test_unknown_split_is_refused_with_the_nearest_name(name: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        split_path(name)
    assert expected in str(caught.value)


def test_data_set_without_a_list_is_refused() -> None:
    with pytest.raises(DataError, match=r"no list of classes for data set 'visa' \(did you mean 'visa_ac'\?\)"):
        read_classes("visa")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema_version": 9}, "schema version 1"),
        ({"images": {"cap": {"bent": {"exam": [1]}}}}, "role 'exam' is unknown; allowed: calibration, left_out"),
        ({"images": {"cap": []}}, "is damaged"),
    ],
)
def test_damaged_split_file_is_refused(tmp_path: Path, change: dict, expected: str) -> None:
    content = json.loads(split_path("visa_ac/p0").read_text()) | change
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=expected):
        read_split(path)


def test_absent_split_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path / "none.json")
