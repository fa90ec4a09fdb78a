"""Pictures of parts whose surface is their own, and records of them."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from velm_train.core.audit import AuditReport
from velm_train.core.hashing import sha256_file
from velm_train.core.images import write_png
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord, Role
from velm_train.datasets.audit.auditor import AuditSettings, audit
from velm_train.datasets.file_index import FileIndex

HEIGHT, WIDTH = 90, 122


def part(category: str, number: int) -> np.ndarray:
    """Returns a part: the category's colour and disc, the same place in all, and a surface of its own."""
    layout = np.random.default_rng(list(category.encode()))
    own = np.random.default_rng([number, *category.encode()])
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    centre, radius = layout.uniform(30, 60, 2), layout.uniform(15, 28)
    grain = gaussian_filter(own.standard_normal((HEIGHT, WIDTH)), 1.5)
    image = 90 + 12 * grain / grain.std() + 60 * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2)
    rgb = image[..., None] * layout.uniform(0.4, 1.2, 3) + own.normal(0, 1.5, (HEIGHT, WIDTH, 1))
    return np.rint(rgb).clip(0, 255).astype(np.uint8)


def save(image: np.ndarray, path: Path, *, quality: int | None = None) -> Path:
    """Writes a PNG, or a JPEG of this quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if quality is None:
        Image.fromarray(np.ascontiguousarray(image)).save(path)
    else:
        Image.fromarray(np.ascontiguousarray(image)).save(path, quality=quality)
    return path


@dataclasses.dataclass
class Shelf:
    """A growing data set on disk, with the role of every image."""

    folder: Path
    records: list[ImageRecord]
    roles: dict[str, Role]

    def add(
        self,
        name: str,
        image: np.ndarray | None,
        *,
        role: Role | None,
        dataset: str = "d",
        quality: int | None = None,
        group: str | None = None,
        marked: int | None = None,
    ) -> ImageRecord:
        """Adds `category/split/type/file`; `marked` pixels of its mask, None for no mask; an absent image is copied."""
        path = self.folder / dataset / name
        if image is not None:
            save(image, path, quality=quality)
        category, split, defect_type, _ = name.split("/")
        with Image.open(path) as opened:
            size_hw = (opened.height, opened.width)
        masks: tuple[Path, ...] = ()
        if marked is not None:
            gt_mask = np.zeros(size_hw, dtype=np.bool_)
            gt_mask.flat[:marked] = True
            masks = (path.with_name(f"{path.stem}_mask.png"),)
            write_png(gt_mask, masks[0])
        image_id = f"{dataset}/{name}"
        record = ImageRecord(
            image_id=image_id,
            dataset=dataset,
            category=category,
            split="train" if split == "train" else "test",
            defect_type=defect_type,
            image_path=path,
            gt_mask_paths=masks,
            sha256=sha256_file(path),
            group_id=group or image_id,
            size_hw=size_hw,
        )
        self.records.append(record)
        if role is not None:
            self.roles[image_id] = role
        return record

    def audit(
        self, *, near_duplicates: bool = True, extra_folders: tuple[Path, ...] = (), k_shot: int = 1
    ) -> AuditReport:
        settings = AuditSettings(
            near_duplicates=near_duplicates, extra_folders=extra_folders, k_shot=k_shot, roles_from="protocol"
        )
        return audit(
            self.records,
            self.roles,
            excluded=(),
            settings=settings,
            index=FileIndex(None, num_threads=1),
            progress=SilentProgress(),
        )


def kinds(report: AuditReport) -> list[tuple[str, str, tuple[str, ...]]]:
    """Returns severity, kind and image ids of every finding."""
    return [(one.severity, one.kind, tuple(image.image_id for image in one.images)) for one in report.findings]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Two categories with 8 training normals, 4 test normals and 4 defects each, in which nothing is wrong."""
    made = Shelf(folder=tmp_path / "data", records=[], roles={})
    for category in ("bolt", "cap"):
        for i in range(8):
            made.add(f"{category}/train/good/{i}.png", part(category, i), role=("train", "reference")[i == 0])
        for i in range(4):
            made.add(f"{category}/test/good/{i}.png", part(category, 20 + i), role="test")
            image = part(category, 40 + i)
            image[30:40, 20 + 15 * i : 26 + 15 * i] = 20
            made.add(f"{category}/test/cut/{i}.png", image, role=("train", "test")[i > 0], marked=60)
    return made


@pytest.fixture
def found() -> Callable[[AuditReport], list[tuple[str, str, tuple[str, ...]]]]:
    return kinds


@pytest.fixture
def make_part() -> Callable[[str, int], np.ndarray]:
    return part


@pytest.fixture
def digest() -> Callable[[str], str]:
    return lambda text: hashlib.sha256(text.encode()).hexdigest()
