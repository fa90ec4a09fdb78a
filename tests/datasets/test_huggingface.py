"""Facts about Hugging Face data sets written as files."""

import io
import os
from pathlib import Path

import datasets.config
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, load_dataset
from datasets import Image as ImageFeature
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.images import read_gt_masks
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.generic import find_table
from velm_train.datasets.huggingface import TABLE_NAME, HuggingFaceColumns, fingerprint, materialise_huggingface
from velm_train.datasets.indexing import Indexed, OnBadFile, index_images

COLUMNS = HuggingFaceColumns(image="image", defect_type="label", category="object", mask="mask", group="part")
PLAIN = HuggingFaceColumns(image="image", defect_type="label", category=None, mask=None, group=None)


def encoded(value: int, *, kind: str = "PNG", mode: str = "RGB", size_wh: tuple[int, int] = (9, 6)) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size_wh, (value,) * 3 if mode == "RGB" else value).save(stream, format=kind)
    return stream.getvalue()


def half_mask() -> bytes:
    stream = io.BytesIO()
    pixels = np.zeros((6, 9), dtype=np.uint8)
    pixels[:3] = 255
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


GOOD, JPEG, GREY = encoded(1), encoded(2, kind="JPEG"), encoded(3, mode="L")


def field(content: bytes | None) -> dict[str, object] | None:
    return None if content is None else {"bytes": content, "path": None}


def split(images: list[bytes], labels: list[int], masks: list[bytes | None], parts: list[int | None]) -> Dataset:
    features = Features(
        {
            "image": ImageFeature(),
            "label": ClassLabel(names=["normal", "dent", "scratch"]),
            "object": Value("string"),
            "mask": ImageFeature(),
            "part": Value("int64"),
            "remark": Value("string"),
        }
    )
    rows = {
        "image": [field(image) for image in images],
        "label": labels,
        "object": ["gear"] * len(images),
        "mask": [field(one) for one in masks],
        "part": parts,
        "remark": ["x"] * len(images),
    }
    return Dataset.from_dict(rows, features=features)


@pytest.fixture
def source(tmp_path: Path) -> str:
    folder = tmp_path / "saved"
    DatasetDict(
        {
            "train": split([GOOD, JPEG], [0, 1], [None, half_mask()], [7, None]),
            "validation": split([encoded(4)], [0], [None], [7]),
            "test": split([GREY], [2], [None], [9]),
        }
    ).save_to_disk(str(folder))
    return str(folder)


def unpack(source: str, out: Path, columns: HuggingFaceColumns = COLUMNS, *, normal: str = "normal") -> None:
    out.mkdir(exist_ok=True)
    materialise_huggingface(
        source,
        subset=None,
        columns=columns,
        category="part",
        normal_labels=(normal,),
        out=out,
        progress=SilentProgress(),
    )


def index(out: Path, on_bad_file: OnBadFile = "refuse") -> Indexed:
    return index_images(
        find_table(out / TABLE_NAME, categories=()),
        dataset="hf",
        index=FileIndex(None, num_threads=1),
        on_bad_file=on_bad_file,
        progress=SilentProgress(),
    )


def read(source: str, out: Path, columns: HuggingFaceColumns = COLUMNS) -> dict[str, ImageRecord]:
    unpack(source, out, columns)
    return {record.image_id: record for record in index(out).records}


def error_of(source: str, out: Path, columns: HuggingFaceColumns = COLUMNS, *, normal: str = "normal") -> str:
    with pytest.raises(DataError) as caught:
        unpack(source, out, columns, normal=normal)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_data_set_is_read_with_every_field(source: str, tmp_path: Path) -> None:
    records = read(source, tmp_path / "out")
    assert {name: (r.split, r.category, r.defect_type, r.size_hw) for name, r in records.items()} == {
        "hf/gear/images/train/000000.png": ("train", "gear", "good", (6, 9)),
        "hf/gear/images/train/000001.jpeg": ("train", "gear", "dent", (6, 9)),
        "hf/gear/images/validation/000000.png": ("train", "gear", "good", (6, 9)),
        "hf/gear/images/test/000000.png": ("test", "gear", "scratch", (6, 9)),
    }
    groups = {name.split("images/")[1]: record.group_id for name, record in records.items()}
    assert groups["train/000000.png"] == groups["validation/000000.png"] == "7"
    assert groups["train/000001.jpeg"] == "hf/gear/images/train/000001.jpeg"
    dent = records["hf/gear/images/train/000001.jpeg"]
    assert read_gt_masks(dent.gt_mask_paths, size_hw=dent.size_hw).all(axis=1).tolist() == [True] * 3 + [False] * 3


def test_pictures_are_the_stored_bytes(source: str, tmp_path: Path) -> None:
    unpack(source, tmp_path / "out")
    images = tmp_path / "out/images"
    assert (images / "train/000000.png").read_bytes() == GOOD
    assert (images / "train/000001.jpeg").read_bytes() == JPEG
    assert (images / "test/000000.png").read_bytes() == GREY


def test_two_runs_write_the_same(source: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        unpack(source, tmp_path / name)
    first, second = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert first == second
    assert len(first) == 6


def test_fingerprint_changes_with_the_content_and_only_then(source: str, tmp_path: Path) -> None:
    before = fingerprint(source, subset=None)
    assert fingerprint(source, subset=None) == before
    arrow = next((tmp_path / "saved/test").glob("*.arrow"))
    status = arrow.stat()
    os.utime(arrow, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert fingerprint(source, subset=None) != before


def test_a_set_without_splits_category_and_masks_follows_the_rule_of_tables(tmp_path: Path) -> None:
    rows = {"image": [field(GOOD), field(GREY)], "label": ["normal", "dent"]}
    features = Features({"image": ImageFeature(), "label": Value("string")})
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "plain"))
    records = read(str(tmp_path / "plain"), tmp_path / "out", PLAIN)
    assert {name: (r.split, r.defect_type) for name, r in records.items()} == {
        "hf/part/images/all/000000.png": ("train", "good"),
        "hf/part/images/all/000001.png": ("test", "dent"),
    }


def test_lists_of_labels_are_several_types(tmp_path: Path) -> None:
    features = Features({"image": ImageFeature(), "label": List(ClassLabel(names=["normal", "dent", "scratch"]))})
    rows = {"image": [field(GOOD), field(GREY), field(JPEG)], "label": [[0], [2, 1], []]}
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "lists"))
    records = read(str(tmp_path / "lists"), tmp_path / "out", PLAIN)
    assert [record.defect_type for record in records.values()] == ["good", "dent+scratch", "good"]


def test_a_column_of_paths_is_a_column_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(GOOD)
    rows = {"image": [str(tmp_path / "a.png")], "label": [0]}
    features = Features({"image": Value("string"), "label": Value("int64")})
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "paths"))
    unpack(str(tmp_path / "paths"), tmp_path / "out", PLAIN, normal="0")
    assert (tmp_path / "out/images/all/000000.png").read_bytes() == GOOD
    (tmp_path / "a.png").unlink()
    assert "row 0: picture" in error_of(str(tmp_path / "paths"), tmp_path / "out2", PLAIN, normal="0")


def test_an_unreadable_picture_is_left_to_the_index(tmp_path: Path) -> None:
    split([GOOD, b"no picture"], [0, 1], [None, None], [1, 2]).save_to_disk(str(tmp_path / "saved"))
    unpack(str(tmp_path / "saved"), tmp_path / "out")
    with pytest.raises(DataError, match=r"row 2: image .*000001\.unknown cannot be read"):
        index(tmp_path / "out")
    assert len(index(tmp_path / "out", "exclude").records) == 1


def test_mask_of_another_size_is_left_to_the_index(tmp_path: Path) -> None:
    wrong = encoded(255, mode="L", size_wh=(6, 9))
    split([GOOD, GREY], [0, 1], [None, wrong], [1, 2]).save_to_disk(str(tmp_path / "saved"))
    unpack(str(tmp_path / "saved"), tmp_path / "out")
    with pytest.raises(DataError, match=r"is 9x6 \(height x width\)"):
        index(tmp_path / "out")


def test_a_cached_hub_data_set_is_read_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for label, content in (("normal", GOOD), ("dent", GREY)):
        (tmp_path / "files" / label).mkdir(parents=True)
        (tmp_path / "files" / label / "a.png").write_bytes(content)
    load_dataset("imagefolder", data_dir=str(tmp_path / "files"), cache_dir=str(tmp_path / "cache"))
    (tmp_path / "cache/imagefolder").rename(tmp_path / "cache/somebody___imagefolder")
    (built,) = (tmp_path / "cache/somebody___imagefolder").iterdir()
    built.rename(built.with_name("default"))  # as the library names what it fetched from the hub
    records = read("somebody/imagefolder", tmp_path / "out", PLAIN)
    assert {r.defect_type: r.image_path.read_bytes() for r in records.values()} == {"good": GOOD, "dent": GREY}
    assert len(fingerprint("somebody/imagefolder", subset=None)) == 64


def test_a_folder_of_files_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for label, content in (("normal", GOOD), ("dent", GREY)):
        (tmp_path / "files/train" / label).mkdir(parents=True)
        (tmp_path / "files/train" / label / "a.png").write_bytes(content)
    records = read(str(tmp_path / "files"), tmp_path / "out", PLAIN)
    assert sorted(record.defect_type for record in records.values()) == ["dent", "good"]


def test_an_unknown_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    assert "'nobody/nothing' cannot be loaded" in error_of("nobody/nothing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded" in error_of(str(tmp_path / "empty"), tmp_path / "out")


def test_unknown_columns_are_refused_with_the_nearest_spelling(source: str, tmp_path: Path) -> None:
    columns = HuggingFaceColumns(image="image", defect_type="labels", category=None, mask=None, group=None)
    assert "train: no column 'labels' (did you mean 'label'?)" in error_of(source, tmp_path / "out", columns)


def test_unknown_splits_are_refused(tmp_path: Path) -> None:
    DatasetDict({"tests": split([GOOD], [0], [None], [1])}).save_to_disk(str(tmp_path / "saved"))
    assert "split 'tests' is unknown (did you mean 'test'?)" in error_of(str(tmp_path / "saved"), tmp_path / "out")


def test_rows_without_a_label_or_picture_are_refused(tmp_path: Path) -> None:
    split([GOOD], [-1], [None], [1]).save_to_disk(str(tmp_path / "unlabelled"))
    message = error_of(str(tmp_path / "unlabelled"), tmp_path / "out")
    assert "row 0 label is -1, which is no class; classes: normal, dent, scratch" in message
    rows = {"image": [None], "label": ["normal"]}
    features = Features({"image": ImageFeature(), "label": Value("string")})
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "blank"))
    assert "row 0: image holds no picture" in error_of(str(tmp_path / "blank"), tmp_path / "out", PLAIN)


def test_labels_of_which_none_is_normal_are_refused(source: str, tmp_path: Path) -> None:
    message = error_of(source, tmp_path / "out", normal="nominal")
    assert "given: nominal; found: dent, normal, scratch" in message
