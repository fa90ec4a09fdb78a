"""The embedded data set: material photographs in, MVTec-style folders with synthetic defects and exact masks out.

    photograph ──► 6 x 5 pieces that share no pixel ─┬─► train pieces ──► train/good, even-numbered defects
                                                     └─► test pieces ──► test/good, odd-numbered defects

A piece stands for one physical part. Every normal image shows a piece of its own, so that training and test normals
are exchangeable and a false-alarm guarantee can hold. All defect images lie in `test/<type>`; `groups.csv` says which
piece each image shows, so that a protocol never puts one piece on both sides of a split.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import DataError
from velm_train.core.images import read_rgb, read_size_hw, write_png
from velm_train.core.progress import Progress
from velm_train.core.records import NORMAL_DEFECT_TYPE, SizeHW
from velm_train.core.seeding import generator
from velm_train.core.shapes import RGBImage
from velm_train.datasets.defect_shapes import RGBFloat
from velm_train.datasets.defects import DEFECT_PAINTERS, add_defect
from velm_train.datasets.reading import GROUPS_FILE, nearest
from velm_train.datasets.texture_specs import PIECES_HW, TEXTURES

TEXTURES_VERSION = 2
"""Raised when the same arguments give other pixels."""

MIN_SIDE_PX = 64

_MAX_CROP_SHARE = 0.9
"""A crop takes at most this share of a piece's width and height, so that places differ between shots."""

_MIN_PHOTO_PX_PER_PX = 0.3
"""A photograph that would have to be enlarged by more than 3.3 is refused."""

Side = Literal["train", "test"]

Photo = UInt8[np.ndarray, "_ _ 3"]
"""RGB pixels of a photograph or a piece of it, of another size than the images made from it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextureCounts:
    """Images per category; defects are per category and type.

    Attributes:
        train_good: normal training images and train pieces, one each.
        test_good: normal test images, one piece each.
        defects_seen: defect images of each type in seen categories, half of them (rounded up) of train pieces.
        defects_unseen: defect images of each type in unseen categories, all of test pieces.
    """

    train_good: int
    test_good: int
    defects_seen: int
    defects_unseen: int

    def __post_init__(self) -> None:
        """Checks that there is something to train on and nothing negative."""
        if self.train_good < 1 or min(self.test_good, self.defects_seen, self.defects_unseen) < 0:
            raise DataError(f"texture counts {self}: train_good must be at least 1, the others at least 0")
        num_pieces = PIECES_HW[0] * PIECES_HW[1]
        if self.train_good >= num_pieces or self.train_good + self.test_good > num_pieces:
            raise DataError(
                f"texture counts {self}: a normal image needs a piece of its own and a photograph has {num_pieces}; "
                "lower train_good or test_good, and leave a piece for testing"
            )


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
    """Writes the set; the same arguments give the same bytes.

    More test normals or defects leave earlier images as they are; `train_good` also decides which pieces are for
    testing, so another value gives other test images.

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
        DataError: if a category is unknown or named twice, a photograph is missing or too small for size_hw, or
            size_hw is below the minimum; nothing is written then.
    """
    _check_request(seen=seen, unseen=unseen, photos=photos, size_hw=size_hw)
    plans = {name: list(_shots(counts, seen=True)) for name in seen}
    plans |= {name: list(_shots(counts, seen=False)) for name in unseen}
    rows: list[tuple[str, str]] = []
    with progress.stage("textures", total=sum(map(len, plans.values()))) as advance:
        for category, shots in plans.items():
            pieces = photo_pieces(read_rgb(_photo_path(photos, category)), even_light=TEXTURES[category].even_light)
            order = [int(i) for i in generator(seed, "textures", category, "pieces").permutation(len(pieces))]
            sides = {"train": order[: counts.train_good], "test": order[counts.train_good :]}
            for shot in shots:
                piece = _piece_of(shot, sides[shot.side], category=category, seed=seed)
                _make_image(out / category, shot, piece=pieces[piece], size_hw=size_hw, seed=seed)
                rows.append((f"{category}/{shot.relative_path}", f"{category}/piece_{piece:02d}"))
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
        if not _photo_path(photos, name).is_file():
            raise DataError(f"photograph {_photo_path(photos, name)} does not exist; fetch the material_photos asset")
    if min(size_hw) < MIN_SIDE_PX:
        raise DataError(f"size_hw is {size_hw}; both sides must be at least {MIN_SIDE_PX} pixels")
    for name in names:
        photo_hw = read_size_hw(_photo_path(photos, name))
        piece_hw = (photo_hw[0] // PIECES_HW[0], photo_hw[1] // PIECES_HW[1])
        try:
            _scale(piece_hw, photo_px_per_px=TEXTURES[name].photo_px_per_px, size_hw=size_hw)
        except DataError as error:
            raise DataError(f"texture {name!r}: {error}") from error


def _photo_path(photos: Path, category: str) -> Path:
    return photos / f"{category}.png"


def _shots(counts: TextureCounts, *, seen: bool) -> Iterator[_Shot]:
    good = NORMAL_DEFECT_TYPE
    for number in range(counts.train_good):
        yield _Shot(folder=f"train/{good}", number=number, side="train", defect_type=good)
    for number in range(counts.test_good):
        yield _Shot(folder=f"test/{good}", number=number, side="test", defect_type=good)
    for defect_type in DEFECT_PAINTERS:
        for number in range(counts.defects_seen if seen else counts.defects_unseen):
            side: Side = "train" if seen and number % 2 == 0 else "test"
            yield _Shot(folder=f"test/{defect_type}", number=number, side=side, defect_type=defect_type)


def _piece_of(shot: _Shot, pieces: Sequence[int], *, category: str, seed: int) -> int:
    """Returns the piece a shot shows: its own for a normal image, a random one of its side for a defect."""
    if shot.defect_type == NORMAL_DEFECT_TYPE:
        return pieces[shot.number]
    rng = generator(seed, "textures", category, shot.folder, str(shot.number), "piece")
    return pieces[int(rng.integers(len(pieces)))]


def _make_image(folder: Path, shot: _Shot, *, piece: Photo, size_hw: SizeHW, seed: int) -> None:
    rng = generator(seed, "textures", folder.name, shot.folder, str(shot.number))
    clean = shoot(piece, photo_px_per_px=TEXTURES[folder.name].photo_px_per_px, size_hw=size_hw, rng=rng)
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


def photo_pieces(photo: RGBImage, *, even_light: bool) -> list[Photo]:
    """Cuts a photograph into PIECES_HW pieces of equal size, row by row, that share no pixel.

    Args:
        photo: the photograph; rows and columns of pixels that do not fill a piece are left over at its end.
        even_light: True to divide the photograph by its own slow change of colour first.
    """
    rows, columns = PIECES_HW
    height, width = photo.shape[0] // rows, photo.shape[1] // columns
    even = _even_out(photo) if even_light else photo
    return [
        even[row * height : (row + 1) * height, column * width : (column + 1) * width].copy()
        for row in range(rows)
        for column in range(columns)
    ]


def _even_out(photo: Photo) -> Photo:
    """Divides by a 4 x 4 sketch of the photograph's colours, enlarged smoothly, and keeps the mean colour."""
    picture = Image.fromarray(photo)
    sketch = picture.resize((4, 4), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)
    slow = np.asarray(sketch, dtype=np.float32).clip(1.0, None)
    mean_colour = photo.mean(axis=(0, 1), dtype=np.float32)
    return _to_8_bits(photo.astype(np.float32) * (mean_colour / slow))


def shoot(piece: Photo, *, photo_px_per_px: float, size_hw: SizeHW, rng: np.random.Generator) -> RGBFloat:
    """Takes one camera shot of a piece: random place, brightness and contrast, no sensor noise.

    Args:
        piece: the only pixels used.
        photo_px_per_px: photograph pixels to one image pixel, above 0; lowered for small pieces, which are enlarged.
        size_hw: size of the shot.
        rng: source of place, brightness and contrast.

    Returns:
        Float picture (H, W, 3), 0..255.

    Raises:
        DataError: if the piece would have to be enlarged too much.
    """
    height, width = size_hw
    scale = _scale((piece.shape[0], piece.shape[1]), photo_px_per_px=photo_px_per_px, size_hw=size_hw)
    x0 = rng.uniform(0.0, piece.shape[1] - scale * width)
    y0 = rng.uniform(0.0, piece.shape[0] - scale * height)
    box = (x0, y0, x0 + scale * width, y0 + scale * height)
    crop = Image.fromarray(piece).resize((width, height), Image.Resampling.BICUBIC, box=box)
    values = np.asarray(crop, dtype=np.float32)
    contrast, gain, offset = rng.uniform(0.95, 1.05), rng.uniform(0.95, 1.05), rng.uniform(-3.0, 3.0)
    mean = float(values.mean())
    slope, intercept = np.float32(contrast * gain), np.float32(gain * mean * (1.0 - contrast) + offset)
    return (values * slope + intercept).clip(0.0, 255.0)


def _scale(piece_hw: SizeHW, *, photo_px_per_px: float, size_hw: SizeHW) -> float:
    """Returns the photograph pixels to one image pixel at which a crop fits into the piece."""
    room = _MAX_CROP_SHARE * min(piece_hw[0] / size_hw[0], piece_hw[1] / size_hw[1])
    if min(photo_px_per_px, room) < _MIN_PHOTO_PX_PER_PX:
        needed_hw = [math.ceil(side * _MIN_PHOTO_PX_PER_PX / _MAX_CROP_SHARE) for side in size_hw]
        raise DataError(
            f"a piece of {piece_hw[0]}x{piece_hw[1]} photograph pixels is too small for images of "
            f"{size_hw[0]}x{size_hw[1]}, which need {needed_hw[0]}x{needed_hw[1]}; lower the image size"
        )
    return min(photo_px_per_px, room)


def expose(clean: RGBFloat, *, rng: np.random.Generator) -> RGBImage:
    """Adds sensor noise of 1.0 to 2.2 grey levels, equal in all channels, and rounds to 8 bits."""
    noise = rng.standard_normal(clean.shape[:2], dtype=np.float32) * np.float32(rng.uniform(1.0, 2.2))
    return _to_8_bits(clean + noise[..., None])


def _to_8_bits(values: RGBFloat) -> RGBImage:
    rounded: RGBImage = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded
