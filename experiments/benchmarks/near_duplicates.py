"""Plants altered copies among synthetic images of parts and says how many the search for near duplicates finds.

    python experiments/benchmarks/near_duplicates.py --images 10000

Every category is a layout of its own (aligned parts, a periodic grid, or grain without any layout); every image of it
is another part: small changes of place and light, a surface of its own, sensor noise. Planted copies lie on the other
side of the split. Whatever else is reported across the sides is false.
"""

import argparse
import io
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from velm_train.core.seeding import generator
from velm_train.datasets.audit.fingerprints import read_fingerprints
from velm_train.datasets.audit.near_duplicates import TEST, TRAIN, find_near_duplicates
from velm_train.datasets.file_index import FileIndex
from velm_train.reporting.manifest import describe_machine

HEIGHT, WIDTH = 144, 184
IMAGES_PER_CATEGORY = 250
PLANTED_SHARE = 0.05
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def jpeg(image: np.ndarray, _rng: np.random.Generator, *, quality: int = 50) -> np.ndarray:
    """Returns the image after lossy compression."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def resize(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image at 60 to 140 % of its size."""
    scale = rng.uniform(0.6, 1.4)
    size_wh = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.BICUBIC))


def crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns 97 % of the height and width at a random place."""
    height, width = round(0.97 * image.shape[0]), round(0.97 * image.shape[1])
    y = int(rng.integers(image.shape[0] - height + 1))
    x = int(rng.integers(image.shape[1] - width + 1))
    return image[y : y + height, x : x + width]


def relight(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image at 80 to 120 % contrast and up to 20 grey levels brighter or darker."""
    mean = image.mean()
    changed = (image - mean) * rng.uniform(0.8, 1.2) + mean + rng.uniform(-20, 20)
    return changed.clip(0, 255).astype(np.uint8)


def everything(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image cropped, resized, relit and compressed."""
    return jpeg(relight(resize(crop(image, rng), rng), rng), rng)


CHANGES: dict[str, Change] = {
    "JPEG, quality 50": jpeg,
    "resized, 60 to 140 %": resize,
    "cropped by 3 %": crop,
    "brightness and contrast": relight,
    "all four": everything,
    "mirrored": lambda image, _rng: image[:, ::-1],
    "turned by a quarter": lambda image, _rng: np.rot90(image),
}


def make_part(category: int, number: int) -> np.ndarray:
    """Returns one image: the category's layout, the part's own place, light and surface, and noise."""
    layout, own = generator(0, "layout", str(category)), generator(0, "part", str(category), str(number))
    kind = ("aligned", "aligned", "aligned", "grid", "grain")[category % 5]
    colour, level = layout.uniform(0.6, 1.0, 3), layout.uniform(40, 200)
    strength, grain = layout.uniform(2, 8), float(layout.choice([1.0, 2.0, 5.0]))
    surface = gaussian_filter(own.standard_normal((HEIGHT, WIDTH), dtype=np.float32), grain)
    image = level + strength * surface / surface.std()
    if kind == "aligned":
        image += outlines(layout, own)
    if kind == "grid":
        phase = own.uniform(0, 2 * np.pi, 2)
        image += 40 * np.sin(COLUMNS / layout.uniform(2, 5) + phase[0]) * np.sin(ROWS / 2.7 + phase[1])
    slope = own.normal(0, 6, 2)
    image = image + slope[0] * (COLUMNS / WIDTH - 0.5) + slope[1] * (ROWS / HEIGHT - 0.5)
    image = image * own.normal(1, 0.03) + own.normal(0, 2)
    rgb = image[..., None] * colour + own.normal(0, 1.5, (HEIGHT, WIDTH, 1))
    return np.rint(rgb).clip(0, 255).astype(np.uint8)


def outlines(layout: np.random.Generator, own: np.random.Generator) -> np.ndarray:
    """Returns discs, rings and boxes at the category's places, moved and turned a little as a part lies."""
    shift = own.normal(0, float(layout.choice([0.0, 0.003, 0.01])), 2)
    angle = own.normal(0, float(layout.choice([0.0, 0.01, 0.03])))
    x, y = COLUMNS / WIDTH - 0.5, ROWS / HEIGHT - 0.5
    u = np.cos(angle) * x - np.sin(angle) * y + 0.5 + shift[0]
    v = np.sin(angle) * x + np.cos(angle) * y + 0.5 + shift[1]
    drawn = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    for _ in range(int(layout.integers(3, 25))):
        centre, size = layout.uniform(0.2, 0.8, 2), layout.uniform(0.03, 0.3, 2)
        distance = ((u - centre[0]) / size[0]) ** 2 + ((v - centre[1]) / size[1]) ** 2
        box = (abs(u - centre[0]) < size[0] / 2) & (abs(v - centre[1]) < size[1] / 2)
        inside = (distance < 1, (distance < 1) & (distance > 0.6), box)[int(layout.integers(3))]
        drawn[inside] += layout.uniform(-90, 90)
    smoothed: np.ndarray = gaussian_filter(drawn, 0.7)
    return smoothed


def write(number: int, *, folder: Path, num_categories: int, num_original: int) -> None:
    """Writes one image: an original, or behind them a copy of one."""
    source = number if number < num_original else source_of(number, num_original)
    image = make_part(source % num_categories, source // num_categories)
    if number >= num_original:
        change = list(CHANGES.values())[number % len(CHANGES)]
        image = np.ascontiguousarray(change(image, generator(0, "change", str(number))))
    Image.fromarray(image).save(folder / f"{number:06d}.png", compress_level=1)


def count_nothing(_units: int) -> None:
    """Shows no progress: the figures are all that is wanted."""


def source_of(number: int, num_original: int) -> int:
    """Returns the original that a planted copy shows; every original is copied once at most."""
    return (number - num_original) * (num_original // max(1, round(num_original * PLANTED_SHARE * 1.1)))


def main() -> None:
    """Makes the images, searches, and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    total = parser.parse_args().images
    num_planted = round(PLANTED_SHARE * total)
    num_original = total - num_planted
    num_categories = max(1, total // IMAGES_PER_CATEGORY)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        make = partial(write, folder=folder, num_categories=num_categories, num_original=num_original)
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(make, range(total), chunksize=50))
        seconds["make the images"] = time.perf_counter() - started
        started = time.perf_counter()
        index = FileIndex(None, num_threads=os.cpu_count() or 1)
        prints = read_fingerprints(sorted(folder.iterdir()), index=index, advance=count_nothing)
        seconds["fingerprints"] = time.perf_counter() - started
    sources = {number: source_of(number, num_original) for number in range(num_original, total)}
    sides = [TEST if number % 4 == 0 else TRAIN for number in range(num_original)]
    sides += [TRAIN if sides[sources[number]] == TEST else TEST for number in range(num_original, total)]
    categories = [f"{sources.get(number, number) % num_categories}" for number in range(total)]
    started, started_cpu = time.perf_counter(), time.process_time()
    pairs = find_near_duplicates(prints.thumbnails, categories=categories, sides=sides, advance=count_nothing)
    seconds["search"] = time.perf_counter() - started
    seconds["search, processor time"] = time.process_time() - started_cpu
    found = {(pair.first, pair.second) for pair in pairs}
    planted = {(source, number): list(CHANGES)[number % len(CHANGES)] for number, source in sources.items()}
    false = found - set(planted)
    machine = describe_machine(())
    print(f"machine: {machine.cpu}, {machine.num_cores} cores")
    print(f"images: {total} in {num_categories} categories, planted: {len(planted)}")
    print(f"found: {len(found & set(planted))} of {len(planted)}, false: {len(false)}")
    kinds, hits = Counter(planted.values()), Counter(planted[pair] for pair in found & set(planted))
    for kind in CHANGES:
        print(f"  {kind}: {hits[kind]} of {kinds[kind]}")
    for step, spent in seconds.items():
        print(f"{step}: {spent:.1f} s")
    for pair in sorted(set(planted) - found):
        print(f"missed: {planted[pair]}, category {categories[pair[0]]}")
    for pair in sorted(false):
        print(f"false: categories {categories[pair[0]]} and {categories[pair[1]]}")


if __name__ == "__main__":
    main()
