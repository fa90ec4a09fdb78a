"""Facts about masks, sizes and numbers of images."""

import numpy as np
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.datasets.audit.findings import Cast
from velm_train.datasets.audit.labels import bad_findings
from velm_train.datasets.indexing import Excluded


def test_a_type_with_fewer_images_than_shots(shelf, found, make_part) -> None:
    shelf.add("bolt/test/dent/0.png", make_part("bolt", 80), role="test")
    assert found(shelf.audit(k_shot=1)) == []
    (finding,) = shelf.audit(k_shot=4).findings
    assert (finding.severity, finding.kind) == ("label", "few")
    assert finding.text.startswith("bolt/dent: 1 images, fewer than protocol.k_shot=4")


def test_a_defect_whose_mask_is_empty(shelf, found, make_part) -> None:
    for i in range(2):
        shelf.add(f"bolt/test/dent/{i}.png", make_part("bolt", 80 + i), role="test", marked=i)
    assert found(shelf.audit()) == [("label", "blank", ("d/bolt/test/dent/0.png",))]


def test_a_good_image_whose_mask_is_not_empty(shelf, found, make_part) -> None:
    for i in range(2):
        shelf.add(f"bolt/test/good/x{i}.png", make_part("bolt", 80 + i), role="test", marked=i)
    assert found(shelf.audit()) == [("label", "stray", ("d/bolt/test/good/x1.png",))]


def test_a_mask_of_another_size(shelf, found, make_part) -> None:
    record = shelf.add("bolt/test/dent/0.png", make_part("bolt", 80), role="test", marked=5)
    Image.fromarray(np.full((45, 61), 255, dtype=np.uint8)).save(record.gt_mask_paths[0])
    assert found(shelf.audit()) == [("label", "size", ("d/bolt/test/dent/0.png",))]


def test_a_mask_that_cannot_be_read(shelf, make_part) -> None:
    record = shelf.add("bolt/test/dent/0.png", make_part("bolt", 80), role="test", marked=5)
    record.gt_mask_paths[0].write_bytes(b"no picture")
    (finding,) = shelf.audit().findings
    assert (finding.kind, str(record.gt_mask_paths[0]) in finding.text) == ("bad", True)


def test_faults_of_one_folder_are_one_finding(shelf, found, make_part) -> None:
    for i in range(3):
        shelf.add(f"bolt/test/dent/{i}.png", make_part("bolt", 80 + i), role="test", marked=0)
    ((_, kind, ids),) = found(shelf.audit())
    assert (kind, len(ids)) == ("blank", 3)


def test_an_extreme_shape_and_several_sizes(shelf, found) -> None:
    strip = np.random.default_rng(0).integers(0, 255, (8, 90, 3)).astype(np.uint8)
    shelf.add("bolt/test/dent/0.png", strip, role="test")
    (shape, sizes) = shelf.audit(near_duplicates=False).findings
    assert (shape.severity, shape.kind) == ("label", "shape")
    assert (sizes.severity, sizes.kind) == ("note", "sizes")
    assert "90x122 (16), 8x90 (1)" in sizes.text


def test_files_that_the_reader_left_out_are_named(shelf) -> None:
    cast = Cast(records=tuple(shelf.records), roles=shelf.roles)
    record = shelf.records[0]
    (left_out, damaged) = bad_findings(
        cast,
        excluded=[Excluded(path="bolt/x.png", reason="image bolt/x.png is empty")],
        failures={record.image_path: DataError("image is cut short")},
    )
    assert (left_out.text, left_out.images[0].path) == ("image bolt/x.png is empty", "bolt/x.png")
    assert (damaged.text, damaged.images[0].image_id) == ("image is cut short", record.image_id)
