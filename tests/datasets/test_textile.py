"""Facts about the reader of the textile set and the figures published on it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import index_images
from velm_train.datasets.published import TEXTILE_RESULTS
from velm_train.datasets.textile import find_textile


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for value, folder in enumerate(("nominal", "local", "global")):
        path = tmp_path / "images" / folder / "textile_0001.jpg"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((8, 11, 3), 40 * value, dtype=np.uint8)).save(path)
    return tmp_path


def read(root: Path) -> tuple[ImageRecord, ...]:
    index = FileIndex(None, num_threads=1)
    found = find_textile(root, categories=[])
    return index_images(found, dataset="textile", index=index, on_bad_file="refuse", progress=SilentProgress()).records


def test_folders_become_types_of_one_category(root: Path) -> None:
    rows = [(r.image_id, r.defect_type, r.split) for r in read(root)]
    assert rows == [
        ("textile/textile/global/textile_0001.jpg", "global", "test"),
        ("textile/textile/local/textile_0001.jpg", "local", "test"),
        ("textile/textile/nominal/textile_0001.jpg", "good", "train"),
    ]


def test_missing_folder_is_refused(root: Path) -> None:
    (root / "images/local/textile_0001.jpg").unlink()
    with pytest.raises(DataError, match=r"no images in .*local"):
        read(root)


@pytest.mark.parametrize("row", TEXTILE_RESULTS, ids=lambda row: f"{row.model} {row.learning_normals}")
def test_published_figures_agree_with_one_confusion_matrix_of_200_images(row) -> None:
    true_positives, true_negatives = 100 * row.sensitivity, 100 * row.specificity
    precision = true_positives / (true_positives + 100 - true_negatives)
    assert row.accuracy == pytest.approx((true_positives + true_negatives) / 200, abs=1e-9)
    assert row.precision == pytest.approx(precision, abs=6e-5)
    assert row.f1 == pytest.approx(2 * precision * row.sensitivity / (precision + row.sensitivity), abs=6e-5)
