"""The embedded data set: material photographs in, MVTec-style folders with synthetic defects and exact masks out.

    photograph ─┬─ left part ──► train/good, even-numbered defects   (group "<category>/left")
                └─ right part ─► test/good,  odd-numbered defects    (group "<category>/right")

The two parts share no pixel. All defect images lie in `test/<type>`; `groups.csv` says which part each image
was taken from, so that a protocol never puts one part on both sides of a split.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import DataError
from velm_train.core.images import read_rgb, write_png
from velm_train.core.progress import Progress
from velm_train.core.records import NORMAL_DEFECT_TYPE, SizeHW
from velm_train.core.seeding import generator
from velm_train.core.shapes import RGBImage
from velm_train.datasets.defect_shapes import Colour, RGBFloat
from velm_train.datasets.defects import DEFECT_PAINTERS, add_defect
from velm_train.datasets.reading import GROUPS_FILE, nearest
from velm_train.datasets.texture_specs import TEXTURES

TEXTURES_VERSION = 1
"""Raised when the same arguments give other pixels."""

MIN_SIDE_PX = 64

_GAP_FRACTION = 0.01
"""Strip on either side of the photograph's middle that belongs to neither part."""

_MAX_CROP_SHARE = 0.9
"""A crop takes at most this share of a part's width and height, so that places differ between shots."""

_MIN_PHOTO_PX_PER_PX = 0.4
"""A part that would have to be enlarged by more than 2.5 is continued by mirror images of itself instead."""

Side = Literal["left", "right"]

Photo = UInt8[np.ndarray, "rows columns 3"]
"""Photograph or part of one in RGB order, of another size than the images made from it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextureCounts:
    """Images per category; defects are per category and type, half of them (rounded up) from the left part.

    Attributes:
        train_good: normal images from the left part.
        test_good: normal images from the right part.
        defects_seen: defect images of each type in seen categories.
        defects_unseen: defect images of each type in unseen categories.
    """

    train_good: int
    test_good: int
    defects_seen: int
    defects_unseen: int

    def __post_init__(self) -> None:
        """Checks that there is something to train on and nothing negative."""
        if self.train_good < 1 or min(self.test_good, self.defects_seen, self.defects_unseen) < 0:
            raise DataError(f"texture counts {self}: train_good must be at least 1, the others at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shot:
    """One image to make: its path below the category folder is `folder/number.png`."""

    folder: str
    number: int
    side: Side
    defect_type: str

    @property
    def relative_path(self) -> str:
        return f"{self.folder}/{self.number:03d}.png"


def make_textures(
    out: Path,
    *,
    photos: Path,
    seen: Sequence[str],
    unseen: Sequence[str],
    size_hw: SizeHW,
    counts: TextureCounts,
    seed: int,
    progress: Progress,
) -> None:
    """Writes the set; the same arguments give the same bytes, and a larger count leaves earlier images as they are.

    Args:
        out: root of the MVTec-style folders; existing images of the same name are overwritten.
        photos: folder with `<category>.png` for every category.
        seen: categories with `counts.defects_seen` images of every type.
        unseen: categories with `counts.defects_unseen` images of every type.
        size_hw: height and width of every image, each at least MIN_SIDE_PX.
        counts: how many images.
        seed: root seed.
        progress: receives one unit an image.

    Raises:
        DataError: if a category is unknown or named twice, a photograph is missing, or size_hw is too small.
    """
    _check_request(seen=seen, unseen=unseen, photos=photos, size_hw=size_hw)
    plans = {name: list(_shots(counts, num_defects=counts.defects_seen)) for name in seen}
    plans |= {name: list(_shots(counts, num_defects=counts.defects_unseen)) for name in unseen}
    rows: list[tuple[str, str]] = []
    with progress.stage("textures", total=sum(map(len, plans.values()))) as advance:
        for category, shots in plans.items():
            parts = photo_parts(read_rgb(photos / f"{category}.png"), even_light=TEXTURES[category].even_light)
            for shot in shots:
                _make_image(out / category, shot, part=parts[shot.side], size_hw=size_hw, seed=seed)
                rows.append((f"{category}/{shot.relative_path}", f"{category}/{shot.side}"))
                advance(1)
    write_atomic(out / GROUPS_FILE, _groups_csv(sorted(rows)))


def _check_request(*, seen: Sequence[str], unseen: Sequence[str], photos: Path, size_hw: SizeHW) -> None:
    names = [*seen, *unseen]
    if not names:
        raise DataError(f"no texture is asked for; choose from {', '.join(TEXTURES)}")
    for name in names:
        if name not in TEXTURES:
            raise DataError(f"texture {name!r} is unknown{nearest(name, TEXTURES)}; allowed: {', '.join(TEXTURES)}")
        if names.count(name) > 1:
            raise DataError(f"texture {name!r} is asked for twice; a texture is either seen or unseen, and once")
        if not (photos / f"{name}.png").is_file():
            raise DataError(f"photograph {photos / f'{name}.png'} does not exist; fetch the material_photos asset")
    if min(size_hw) < MIN_SIDE_PX:
        raise DataError(f"size_hw is {size_hw}; both sides must be at least {MIN_SIDE_PX} pixels")


def _shots(counts: TextureCounts, *, num_defects: int) -> Iterator[_Shot]:
    good = NORMAL_DEFECT_TYPE
    for number in range(counts.train_good):
        yield _Shot(folder=f"train/{good}", number=number, side="left", defect_type=good)
    for number in range(counts.test_good):
        yield _Shot(folder=f"test/{good}", number=number, side="right", defect_type=good)
    for defect_type in DEFECT_PAINTERS:
        for number in range(num_defects):
            side: Side = "left" if number % 2 == 0 else "right"
            yield _Shot(folder=f"test/{defect_type}", number=number, side=side, defect_type=defect_type)


def _make_image(folder: Path, shot: _Shot, *, part: Photo, size_hw: SizeHW, seed: int) -> None:
    rng = generator(seed, "textures", folder.name, shot.folder, str(shot.number))
    clean = shoot(part, photo_px_per_px=TEXTURES[folder.name].photo_px_per_px, size_hw=size_hw, rng=rng)
    if shot.defect_type != NORMAL_DEFECT_TYPE:
        defect = add_defect(clean, defect_type=shot.defect_type, rng=rng)
        clean = defect.image
        write_png(defect.gt_mask, folder / "ground_truth" / shot.defect_type / f"{shot.number:03d}_mask.png")
    write_png(expose(clean, rng=rng), folder / shot.relative_path)


def _groups_csv(rows: list[tuple[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "group"])
    writer.writerows(rows)
    return text.getvalue()


def photo_parts(photo: RGBImage, *, even_light: bool) -> dict[Side, Photo]:
    """Cuts a photograph into a left and a right part of equal width that share no pixel.

    Args:
        photo: the photograph, at least 100 pixels wide.
        even_light: True to divide each part by its own slow change of colour and give both the photograph's
            mean colour.
    """
    width = photo.shape[1]
    part_width = width // 2 - max(1, round(_GAP_FRACTION * width))
    left, right = photo[:, :part_width].copy(), photo[:, width - part_width :].copy()
    if not even_light:
        return {"left": left, "right": right}
    mean = photo.mean(axis=(0, 1))
    return {"left": _even_out(left, mean_colour=mean), "right": _even_out(right, mean_colour=mean)}


def _even_out(part: Photo, *, mean_colour: Colour) -> Photo:
    """Divides by a 4 x 4 sketch of the part's colours, enlarged smoothly."""
    picture = Image.fromarray(part)
    sketch = picture.resize((4, 4), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)
    slow = np.asarray(sketch, dtype=np.float32).clip(1.0, None)
    scaled = part.astype(np.float32) * (mean_colour.astype(np.float32) / slow)
    return _to_8_bits(scaled)


def shoot(part: Photo, *, photo_px_per_px: float, size_hw: SizeHW, rng: np.random.Generator) -> RGBFloat:
    """Takes one camera shot of a part of a photograph: random place, brightness and contrast, no sensor noise.

    A part too small for the crop at this scale is enlarged by up to 2.5; a part too small even for that is
    first continued by its own mirror images.

    Args:
        part: the photograph's part, the only pixels used.
        photo_px_per_px: photograph pixels to one image pixel, above 0; an upper bound for small parts.
        size_hw: size of the shot.
        rng: source of place, brightness and contrast.

    Returns:
        Float picture (H, W, 3), 0..255.
    """
    height, width = size_hw
    while _fitting_scale(part, size_hw) < _MIN_PHOTO_PX_PER_PX:
        part = np.pad(part, ((0, part.shape[0]), (0, part.shape[1]), (0, 0)), mode="symmetric")
    scale = min(photo_px_per_px, _fitting_scale(part, size_hw))
    x0 = rng.uniform(0.0, part.shape[1] - scale * width)
    y0 = rng.uniform(0.0, part.shape[0] - scale * height)
    box = (x0, y0, x0 + scale * width, y0 + scale * height)
    crop = Image.fromarray(part).resize((width, height), Image.Resampling.BICUBIC, box=box)
    values = np.asarray(crop, dtype=np.float32)
    contrast, gain, offset = rng.uniform(0.95, 1.05), rng.uniform(0.95, 1.05), rng.uniform(-3.0, 3.0)
    mean = float(values.mean())
    slope, intercept = np.float32(contrast * gain), np.float32(gain * mean * (1.0 - contrast) + offset)
    return (values * slope + intercept).clip(0.0, 255.0)


def _fitting_scale(part: Photo, size_hw: SizeHW) -> float:
    return _MAX_CROP_SHARE * float(min(part.shape[0] / size_hw[0], part.shape[1] / size_hw[1]))


def expose(clean: RGBFloat, *, rng: np.random.Generator) -> RGBImage:
    """Adds sensor noise of 1.0 to 2.2 grey levels, equal in all channels, and rounds to 8 bits."""
    noise = rng.standard_normal(clean.shape[:2], dtype=np.float32) * np.float32(rng.uniform(1.0, 2.2))
    return _to_8_bits(clean + noise[..., None])


def _to_8_bits(values: RGBFloat) -> RGBImage:
    rounded: RGBImage = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded
