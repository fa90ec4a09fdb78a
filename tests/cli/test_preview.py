"""`task=preview`: the page of a set made by hand, with and without detector and model."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.cli.compose import load_config
from velm_train.cli.preview import same_content
from velm_train.cli.tasks import run_task
from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord

SIZE_HW = (60, 100)


def put(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def part(seed: int, *, size_hw: tuple[int, int] = SIZE_HW, defect: bool = False) -> np.ndarray:
    """A grey part of its own; a defect is bright and on rows 20 to 39, columns 30 to 49."""
    pixels = np.random.default_rng(seed).integers(80, 100, (*size_hw, 3), dtype=np.uint8)
    if defect:
        pixels[20:40, 30:50] = (250, 240, 60)
    return pixels


def defect_mask(size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    values = np.zeros(size_hw, dtype=np.uint8)
    values[20:40, 30:50] = 255
    return values


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two categories; masks for one type of the first, and a wider and a taller format."""
    root = tmp_path / "set"
    for i in range(8):
        put(root / f"nut/train/good/{i:03d}.png", part(i))
        put(root / f"pin/train/good/{i:03d}.png", part(100 + i, size_hw=(90, 50)))
    for i in range(3):
        put(root / f"nut/test/good/{i:03d}.png", part(20 + i))
        put(root / f"nut/test/dent/{i:03d}.png", part(30 + i, defect=True))
        put(root / f"nut/ground_truth/dent/{i:03d}_mask.png", defect_mask())
        put(root / f"nut/test/cut/{i:03d}.png", part(40 + i, defect=True))
        put(root / f"pin/test/good/{i:03d}.png", part(120 + i, size_hw=(90, 50)))
        put(root / f"pin/test/b&w/{i:03d}.png", part(130 + i, size_hw=(90, 50), defect=True))
    return root


@pytest.fixture
def look(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs the task on the data alone, where no asset is to be had, and returns the page."""
    monkeypatch.setenv("VELM_ASSETS", str(tmp_path / "assets"))

    def run(*words: str) -> str:
        config = load_config(
            [
                "task=preview",
                "task.num_preview=0",
                "dataset=mvtec_style",
                f"dataset.root={root}",
                "protocol.k_shot=1",
                f"paths.artifacts={tmp_path / 'artifacts'}",
                *words,
            ]
        )
        run_task(config, run_folder=tmp_path / "run")
        assert not (tmp_path / "assets").exists()
        return (tmp_path / "run" / "preview.html").read_text(encoding="utf-8")

    return run


def words_of(text: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", text.partition("</style>")[2]).split())


def pictures(text: str) -> dict[str, np.ndarray]:
    """Returns alternative text -> pixels."""
    found = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', text)
    return {alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int) for data, alt in found}


def test_data_alone_needs_no_asset_no_taxonomy_and_no_mask(look, root: Path, capsys) -> None:
    for path in (root / "nut/ground_truth").rglob("*.png"):
        path.unlink()
    (root / "nut/ground_truth/dent").rmdir()
    (root / "nut/ground_truth").rmdir()
    words = words_of(look())
    assert "31 images 22 good, 9 defective" in words
    assert "0 of 9 defects with a mask 9 without" in words
    assert words.count("no mask") == 9
    assert "nut 17 images, 2 defect types" in words
    assert "b&amp;w 3 of 3" in words
    assert "What the model is taught" not in words
    assert "preview.html" in capsys.readouterr().out


def test_masks_are_outlined_where_they_are_and_shapes_are_kept(look) -> None:
    shown = pictures(look())
    dent = shown["nut, dent, mask outlined: test/dent/000.png"]
    assert dent.shape == (60, 100, 3)
    red = (dent[..., 0] > 150) & (dent[..., 1] < 110) & (dent[..., 2] < 110)
    rows, columns = np.nonzero(red)
    assert abs(rows.min() - 17) <= 1  # two pixels of line beyond one pixel of space
    assert abs(rows.max() - 42) <= 1
    assert abs(columns.min() - 27) <= 1
    assert abs(columns.max() - 52) <= 1
    assert not red[22:38, 32:48].any()
    for alt in ("nut, cut: test/cut/000.png", "nut, good: test/good/000.png"):
        assert not any(alt == name and (pixels[..., 0] > pixels[..., 1] + 60).any() for name, pixels in shown.items())
    assert shown["pin, b&amp;w: test/b&amp;w/000.png"].shape == (90, 50, 3)


def test_every_type_has_its_number_of_thumbnails(look) -> None:
    shown = pictures(look("task.num_thumbnails=2"))
    kinds = [alt.partition(":")[0].removesuffix(", mask outlined") for alt in shown]
    assert sorted(kinds) == sorted(2 * ["nut, good", "nut, dent", "nut, cut", "pin, good", "pin, b&amp;w"])


def test_protocol_that_cannot_be_met_is_said_on_the_page(look) -> None:
    words = words_of(look("protocol.k_shot=7"))
    assert "No roles can be given" in words
    assert "31 images" in words
    assert "Left out" not in words


def test_images_beyond_the_protocol_are_counted_with_the_reason(look) -> None:
    words = words_of(look("protocol.max_test_per_type=1"))
    assert "Left out by the protocol 7 images: beyond max_test_per_type=1" in words


def test_bad_files_are_named_and_stop_only_the_samples(look, root: Path) -> None:
    (root / "nut/test/dent/001.png").write_bytes(b"no picture")
    words = words_of(look())
    assert "30 images" in words
    assert "1 image cannot be used: listed below, not counted. A run stops at bad files" in words
    assert str(root / "nut/test/dent/001.png") in words
    with pytest.raises(DataError, match=r"cannot be used, see .*preview\.html"):
        look("task.num_preview=1")


def test_set_without_a_usable_image_is_refused(look, root: Path) -> None:
    for path in root.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="no image that can be used"):
        look()


def test_samples_are_on_the_page_and_printed(root: Path, tmp_path: Path, capsys) -> None:
    config = load_config(
        [
            "task=preview",
            "task.num_preview=1",
            "debug=fast",
            "dataset=mvtec_style",
            f"dataset.root={root}",
            "dataset.categories=[nut]",
            f"paths.artifacts={tmp_path / 'artifacts'}",
            "threads=1",
        ]
    )
    run_task(config, run_folder=tmp_path / "run")
    words = words_of((tmp_path / "run" / "preview.html").read_text(encoding="utf-8"))
    printed = " ".join(capsys.readouterr().out.split())
    tasks = [name for name in config.instructions.tasks if re.search(rf"{name} \d+ \d+\.\d", words)]
    assert tasks
    for name in tasks:
        assert re.search(rf"{name} nut \d+ text \+ \d+ image tokens, \d+ supervised", words), name
    assert "answer to learn" in words
    assert "&lt;|im_start|&gt;user" in words
    assert printed.count("tokens ") >= 1
    assert printed.count("target ") == 1
    assert "preview: " in printed


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


def test_equal_files_are_named_and_told_apart_by_type() -> None:
    def one(number: int, kind: str, content: int) -> ImageRecord:
        made = record(content, category="nut", kind=kind, path=Path("x.png"), size_hw=SIZE_HW)
        return ImageRecord(**{name: getattr(made, name) for name in made.__slots__} | {"image_id": f"{kind}/{number}"})

    assert same_content([one(0, "cut", 0), one(1, "cut", 1)]) == []
    assert same_content([one(0, "cut", 0), one(1, "cut", 0), one(2, "dent", 2), one(3, "good", 2)]) == [
        "4 files hold the same picture: cut/0 = cut/1; dent/2 = good/3.",
        "2 of them have different types: dent/2 = good/3.",
    ]
