"""Two hand-made samples whose pictures lie on disk: one with a contour and a crop, one in several turns."""

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest

from velm_train.core.hashing import sha256_file
from velm_train.core.images import cut_out, read_rgb, write_png
from velm_train.core.progress import SilentProgress
from velm_train.core.records import InstructionSample, Message, Option, View
from velm_train.core.shapes import RGBImage
from velm_train.instructions.formats.exchange import export_samples
from velm_train.instructions.store import sample_to_json

NO_CONTOUR = np.zeros((0, 2), dtype=np.int32)


def render(view: View) -> RGBImage:
    """Cuts out the box, after painting the contour's points red."""
    image = read_rgb(view.image_path).copy()
    for x, y in view.contour:
        image[y, x] = (255, 0, 0)
    return cut_out(image, view.box_xyxy)


def write_image(path: Path, value: int) -> Path:
    image = np.full((30, 40, 3), value, dtype=np.uint8)
    image[:, :10] = 7
    write_png(image, path)
    return path


def make_view(path: Path, kind: str, *, box=(0, 0, 40, 30), contour=NO_CONTOUR) -> View:
    return View(
        kind=kind,
        image_id=f"parts/nut/{path.name}",
        image_path=path,
        sha256=sha256_file(path),
        box_xyxy=box,
        contour=contour,
    )


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return write_image(tmp_path / "source" / "part \u00e4.png", 90)


@pytest.fixture
def samples(part: Path, tmp_path: Path) -> list[InstructionSample]:
    normal = write_image(tmp_path / "source" / "normal.png", 120)
    outline = np.array([[20, 5], [30, 5], [30, 15]], dtype=np.int32)
    plain = InstructionSample(
        sample_id="parts/nut/normal.png#0/name_type/0",
        image_id="parts/nut/normal.png",
        category="nut",
        task="name_type",
        views=(make_view(normal, "query"),),
        messages=(
            Message(role="user", text="<image>\nWhich one?"),
            Message(role="assistant", text="Tell me more."),
            Message(role="user", text="scratch, no defect"),
        ),
        target="no defect",
        options=(Option(answer="scratch", defect_type="scratch"), Option(answer="no defect", defect_type="good")),
        provenance={"answer_defect_type": "good", "gate_policy": "detector"},
    )
    outlined = InstructionSample(
        sample_id="parts/nut/part \u00e4.png#0/name_type/0",
        image_id="parts/nut/part \u00e4.png",
        category="nut",
        task="name_type",
        views=(
            make_view(normal, "reference"),
            make_view(part, "query_contour", contour=outline),
            make_view(part, "crop", box=(15, 0, 36, 21)),
        ),
        messages=(Message(role="user", text="Normal: <image>\nMarked: <image>\nDetail: <image>\nWhat is it?"),),
        target="none of these",
        options=(Option(answer="none of these", defect_type=None),),
        provenance={"answer_defect_type": "dent", "only_here": "1"},
    )
    return [plain, outlined]


@pytest.fixture
def as_json() -> Callable[[list[InstructionSample]], list[dict]]:
    """Returns a function that makes samples comparable: views hold arrays, which know no single equality."""

    def comparable(samples: list[InstructionSample]) -> list[dict]:
        return [
            sample_to_json(sample)
            | {
                "kinds": [
                    (type(view.image_path).__name__, view.contour.dtype, view.contour.shape) for view in sample.views
                ]
            }
            for sample in samples
        ]

    return comparable


@pytest.fixture
def renderer() -> Callable[[View], RGBImage]:
    return render


@pytest.fixture
def export(samples, renderer, tmp_path):
    def run(format_name, given=samples, name="out", render=renderer):
        return export_samples(
            given, format_name=format_name, out=tmp_path / name, render=render, progress=SilentProgress()
        )

    return run


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
