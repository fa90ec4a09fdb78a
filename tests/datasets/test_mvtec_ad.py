"""Facts about the reader of MVTec AD, and what becomes of files that are not as they should be."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import DataError
from velm_train.core.images import read_gt_masks, read_rgb
from velm_train.datasets.mvtec_ad import MVTEC_AD_TYPES, find_mvtec_ad
from velm_train.datasets.mvtec_style import find_category


@pytest.fixture
def root(tmp_path: Path, put, mask_of) -> Path:
    root = tmp_path / "mvtec"
    for category, defect_type in (("metal_nut", "flip"), ("grid", "bent")):
        put(root / category / "train/good/000.png", 1)
        put(root / category / "test/good/000.png", 2)
        put(root / category / "test" / defect_type / "000.png", 3)
        put(root / category / "ground_truth" / defect_type / "000_mask.png", mask_of(255))
    return root


def error_of(root: Path, indexed: Callable) -> str:
    with pytest.raises(DataError) as caught:
        indexed(find_mvtec_ad(root, categories=[]))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_are_73_types_in_15_categories() -> None:
    assert (len(MVTEC_AD_TYPES), sum(map(len, MVTEC_AD_TYPES.values()))) == (15, 73)


def test_images_masks_and_names_with_underscores_are_read(root: Path, indexed) -> None:
    records = indexed(find_mvtec_ad(root, categories=["metal_nut"])).records
    assert [(r.image_id, r.category, r.split, r.defect_type, r.gt_mask_paths) for r in records] == [
        (
            "set/metal_nut/test/flip/000.png",
            "metal_nut",
            "test",
            "flip",
            (root / "metal_nut/ground_truth/flip/000_mask.png",),
        ),
        ("set/metal_nut/test/good/000.png", "metal_nut", "test", "good", ()),
        ("set/metal_nut/train/good/000.png", "metal_nut", "train", "good", ()),
    ]


def test_absent_categories_are_noted_when_all_are_asked_for(root: Path) -> None:
    (root / "docs").mkdir()
    notes = find_mvtec_ad(root, categories=[]).notes
    assert notes[0] == "folders that are not categories are passed over: docs"
    assert notes[1].startswith("2 of 15 categories are there; without bottle, cable, ")
    assert len(find_mvtec_ad(root, categories=["grid"]).notes) == 1


def test_groups_are_read(root: Path) -> None:
    (root / "groups.csv").write_text(
        "image,group\ngrid/train/good/000.png,a\ngrid/test/good/000.png,b\ngrid/test/bent/000.png,c\n"
    )
    assert {image.group_id for image in find_mvtec_ad(root, categories=["grid"]).images} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        ("metal_nut", r"is itself the category 'metal_nut' of MVTec AD; give .*mvtec$"),
        ("metal_nut/train", r"lies inside the category 'metal_nut' of MVTec AD; give .*mvtec$"),
        ("..", r"holds no category of MVTec AD, but .*mvtec does; give that folder"),
    ],
)
def test_a_root_of_a_wrong_level_is_refused_with_the_right_one(root: Path, indexed, below: str, expected: str) -> None:
    assert re.search(expected, error_of((root / below).resolve(), indexed))


def test_another_data_set_is_refused(tmp_path: Path, put, indexed) -> None:
    put(tmp_path / "botle/train/good/0.png")
    message = error_of(tmp_path, indexed)
    assert "holds no category of MVTec AD; found 'botle' (did you mean 'bottle'?)" in message


def test_a_misspelt_category_is_refused(root: Path, indexed) -> None:
    (root / "grid").rename(root / "gird")
    assert "holds 'gird' (did you mean 'grid'?), which is no category of MVTec AD" in error_of(root, indexed)


def test_a_requested_category_that_is_absent_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="category 'bottle' is not in"):
        find_mvtec_ad(root, categories=["bottle"])


def test_an_unknown_type_is_refused(root: Path, put, indexed) -> None:
    put(root / "grid/test/brokn/000.png")
    assert "has no type 'brokn' (did you mean 'broken'?)" in error_of(root, indexed)


def test_a_defect_image_without_a_mask_is_refused(root: Path, put, indexed) -> None:
    put(root / "grid/test/bent/001.png")
    assert re.search(r"bent/001\.png \(one of 1\) has no mask", error_of(root, indexed))


def test_a_mask_without_its_image_is_refused(root: Path, put, mask_of, indexed) -> None:
    put(root / "grid/ground_truth/bent/007_mask.png", mask_of(255))
    assert re.search(r"bent/007_mask\.png \(one of 1\) has no image", error_of(root, indexed))


def test_an_empty_category_is_refused(root: Path, indexed) -> None:
    (root / "pill").mkdir()
    assert re.search(r"category 'pill': no images in .*pill/train/good", error_of(root, indexed))


def test_grey_16_bit_and_palette_images_are_read_as_rgb(root: Path, indexed) -> None:
    folder = root / "grid/train/good"
    values = np.arange(54, dtype=np.uint8).reshape(6, 9)
    Image.fromarray(values).save(folder / "grey.png")
    Image.fromarray(values.astype(np.uint16) * 257).save(folder / "deep.png")
    palette = Image.fromarray(values % 3, mode="P")
    palette.putpalette([10, 20, 30, 200, 100, 50, 1, 2, 3])
    palette.save(folder / "palette.png")
    records = {r.image_path.name: r for r in indexed(find_mvtec_ad(root, categories=["grid"])).records}
    assert {records[name].size_hw for name in ("grey.png", "deep.png", "palette.png")} == {(6, 9)}
    for name in ("grey.png", "deep.png"):
        assert np.array_equal(read_rgb(folder / name), np.repeat(values[..., None], 3, axis=2))
    assert read_rgb(folder / "palette.png")[0, :3].tolist() == [[10, 20, 30], [200, 100, 50], [1, 2, 3]]


@pytest.mark.parametrize("suffix", ["JPG", "PNG", "BMP", "TIFF"])
def test_upper_case_suffixes_are_read(root: Path, put, indexed, suffix: str) -> None:
    put(root / f"grid/train/good/1.{suffix}")
    names = [r.image_path.name for r in indexed(find_mvtec_ad(root, categories=["grid"])).records]
    assert f"1.{suffix}" in names


def turned(path: Path, size_wh: tuple[int, int] = (9, 6)) -> None:
    picture = Image.new("RGB", size_wh)
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(path, exif=exif)


def test_a_turned_image_fits_a_mask_drawn_upright_and_one_turned_alike(root: Path, indexed) -> None:
    turned(root / "grid/test/bent/001.jpg")
    upright = np.zeros((9, 6), dtype=np.uint8)
    upright[7, 1] = 255
    for picture in (Image.fromarray(upright), Image.fromarray(np.rot90(upright).copy())):
        exif = picture.getexif()
        if picture.size == (9, 6):
            exif[0x0112] = 6
        picture.save(root / "grid/ground_truth/bent/001_mask.png", exif=exif)
        records = indexed(find_mvtec_ad(root, categories=["grid"])).records
        (record,) = [r for r in records if r.image_path.name == "001.jpg"]
        assert record.size_hw == (9, 6)
        assert np.array_equal(read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw), upright > 0)


def test_a_turned_image_does_not_fit_a_mask_drawn_on_the_side(root: Path, put, mask_of, indexed) -> None:
    turned(root / "grid/test/bent/001.jpg")
    put(root / "grid/ground_truth/bent/001_mask.png", mask_of(255))
    assert re.search(r"001_mask\.png is 6x9 \(height x width\), its image .*001\.jpg 9x6", error_of(root, indexed))


IMAGE, MASK = "grid/test/bent/000.png", "grid/ground_truth/bent/000_mask.png"
NOISE = np.random.default_rng(0).integers(0, 256, size=(50, 70, 3), dtype=np.uint8)


def cut_short(path: Path) -> None:
    Image.fromarray(NOISE).save(path)
    path.write_bytes(path.read_bytes()[:3000])


def as_jpeg_cut_short(path: Path) -> None:
    path.unlink()
    cut_short(path.with_suffix(".jpg"))


def with_white_palette(path: Path) -> None:
    palette = Image.fromarray(np.zeros((6, 9), dtype=np.uint8), mode="P")
    palette.putpalette([255, 255, 255, 255, 0, 0])
    palette.save(path)


BAD = {
    "text": (IMAGE, lambda path: path.write_bytes(b"not a picture"), r"bent/000\.png cannot be read"),
    "empty": (IMAGE, lambda path: path.write_bytes(b""), r"bent/000\.png cannot be read"),
    "truncated": (IMAGE, cut_short, r"bent/000\.png cannot be read"),
    "truncated jpeg": (IMAGE, as_jpeg_cut_short, r"bent/000\.jpg cannot be read"),
    "truncated mask": (MASK, cut_short, r"000_mask\.png cannot be read"),
    "mask of another size": (
        MASK,
        lambda path: Image.new("L", (8, 6)).save(path),
        r"000_mask\.png is 6x8 \(height x width\), its image .*bent/000\.png 6x9",
    ),
    "mask with an unclear palette": (MASK, with_white_palette, r"000_mask\.png has a palette and no black pixel"),
}
"""What is wrong -> the file, how it is spoilt, what the message has to say."""


def spoil(root: Path, kind: str) -> str:
    name, damage, expected = BAD[kind]
    damage(root / name)
    return expected


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_by_name(root: Path, indexed, kind: str) -> None:
    expected = spoil(root, kind)
    assert re.search(expected, error_of(root, indexed))


@pytest.mark.parametrize("kind", BAD)
def test_an_image_with_a_bad_file_is_left_out_on_request(root: Path, indexed, kind: str) -> None:
    expected = spoil(root, kind)
    read = indexed(find_mvtec_ad(root, categories=[]), "exclude")
    (excluded,) = read.excluded
    assert re.search(expected, excluded.reason)
    assert [record.image_id for record in read.records if record.category == "grid"] == [
        "set/grid/test/good/000.png",
        "set/grid/train/good/000.png",
    ]
    assert len(read.records) == 5


def test_a_file_name_that_is_not_utf8_is_refused_or_left_out(root: Path, indexed) -> None:
    source = root / "grid/train/good/000.png"
    strange = os.fsencode(source.parent) + b"/x\xff.png"
    Path(os.fsdecode(strange)).write_bytes(source.read_bytes())
    assert re.search(r"file name .*good/x\\xff\.png is not UTF-8; rename the file", error_of(root, indexed))
    (excluded,) = indexed(find_mvtec_ad(root, categories=[]), "exclude").excluded
    assert excluded.path.endswith(r"good/x\xff.png")


def test_a_mask_name_that_is_not_utf8_is_refused_in_printable_words(root: Path, indexed) -> None:
    mask = root / "grid/ground_truth/bent/000_mask.png"
    Path(os.fsdecode(os.fsencode(mask.parent) + b"/\xff_mask.png")).write_bytes(mask.read_bytes())
    message = error_of(root, indexed)
    assert r"mask " in message
    assert r"\xff_mask.png" in message
    message.encode()


def test_a_circle_of_symbolic_links_is_refused(root: Path, indexed) -> None:
    (root / "grid/train/good/a.png").symlink_to("b.png")
    (root / "grid/train/good/b.png").symlink_to("a.png")
    assert re.search(r"symbolic link .*a\.png leads in a circle", error_of(root, indexed))


def test_a_symbolic_link_to_a_folder_above_is_refused(root: Path, tmp_path: Path, indexed) -> None:
    (root / "grid/test/again").symlink_to(root / "grid")
    assert re.search(r"symbolic link .*again leads to a folder that holds it", error_of(root, indexed))
    (tmp_path / "alias").symlink_to(root)
    assert re.search(r"symbolic link .*again leads to a folder that holds it", error_of(tmp_path / "alias", indexed))


def test_a_dangling_symbolic_link_is_refused(root: Path, indexed) -> None:
    (root / "grid/train/good/a.png").symlink_to("gone.png")
    assert re.search(r"symbolic link .*a\.png leads nowhere", error_of(root, indexed))


def test_a_linked_category_is_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/grid").symlink_to(root / "grid")
    assert len(find_mvtec_ad(tmp_path / "here", categories=[]).images) == len(find_category(root / "grid")) == 3
