"""How fast the data layer indexes, hashes and decodes images: a made tree in, images/s beside plain loops out.

    python experiments/benchmarks/indexing.py --images 10000

The cold index has no remembered facts; the files are in the operating system's cache for every row alike.
"""

import argparse
import hashlib
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_rgb
from velm_train.core.progress import SilentProgress
from velm_train.core.seeding import generator
from velm_train.datasets.file_index import FileIndex
from velm_train.datasets.indexing import index_images
from velm_train.datasets.mvtec_style import find_mvtec_style

MAX_RSS_INCREASE_MB = 300.0
SIZE_HW = (300, 400)
DEFECT_EVERY = 10
"""One image in so many is a defect with a mask."""


def make_tree(root: Path, *, num_images: int) -> int:
    """Writes textured JPEG images of 300x400 pixels, one in ten with a PNG mask, and returns the bytes written."""
    rng = generator(0, "indexing benchmark")
    height, width = SIZE_HW
    texture = rng.integers(0, 256, size=(2 * height // 4, 2 * width // 4, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(texture).resize((2 * width, 2 * height)))
    gt_mask = np.zeros(SIZE_HW, dtype=np.uint8)
    gt_mask[40:90, 100:180] = 255
    for number in range(num_images):
        y, x = rng.integers(0, height), rng.integers(0, width)
        picture = Image.fromarray(large[y : y + height, x : x + width])
        category = root / f"category_{number % 5}"
        defect = number % DEFECT_EVERY >= DEFECT_EVERY - 1
        folder = category / ("test/dent" if defect else "train/good")
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number:06d}.jpg", quality=85)
        if defect:
            masks = category / "ground_truth/dent"
            masks.mkdir(parents=True, exist_ok=True)
            Image.fromarray(gt_mask).save(masks / f"{number:06d}_mask.png")
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def index(root: Path, cache: Path | None, *, num_threads: int, num_images: int) -> None:
    """Finds and indexes the tree once."""
    found = find_mvtec_style(root, categories=())
    indexed = index_images(
        found,
        dataset="benchmark",
        index=FileIndex(cache, num_threads=num_threads),
        on_bad_file="refuse",
        progress=SilentProgress(),
    )
    assert len(indexed.records) == num_images


def plain_hash(path: Path) -> str:
    """Hashes a file as one would write it without this project."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain_decode(path: Path) -> tuple[int, ...]:
    """Decodes a file as one would write it without this project."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).shape


def plain_index(root: Path) -> None:
    """Hashes every image and decodes every picture in one plain loop."""
    for path in sorted(root.rglob("*")):
        if path.suffix in {".jpg", ".png"}:
            plain_decode(path)
        if path.suffix == ".jpg":
            plain_hash(path)


def peak_rss_mb() -> float:
    """Returns the largest resident memory of this process so far, in 10^6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def seconds(work: Callable[[], object]) -> float:
    """Returns how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def machine() -> str:
    """Returns the processor and the number of cores that this process may use."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}"


def measure(root: Path, scratch: Path, *, num_images: int, repeats: int, num_threads: int) -> dict[str, list[float]]:
    """Times every row in turn, `repeats` times, so that a busy machine slows all rows alike."""
    images = sorted(root.rglob("*.jpg"))
    rows: dict[str, list[float]] = {}
    for repeat in range(repeats):
        cache = scratch / f"index_{repeat}.sqlite"
        index_once = partial(index, root, cache, num_threads=num_threads, num_images=num_images)
        works: dict[str, Callable[[], object]] = {
            "index, cold": index_once,
            "index, warm": index_once,
            "index, plain loop": lambda: plain_index(root),
            "hash": lambda: [sha256_file(path) for path in images],
            "hash, plain loop": lambda: [plain_hash(path) for path in images],
            "decode": lambda: [read_rgb(path).shape for path in images],
            "decode, plain loop": lambda: [plain_decode(path) for path in images],
        }
        for name, work in works.items():
            rows.setdefault(name, []).append(seconds(work))
    return rows


def report(rows: dict[str, list[float]], *, num_images: int) -> list[str]:
    """Returns one line a row: median images/s, its range, and the ratio to the plain loop."""
    medians = {name: statistics.median(times) for name, times in rows.items()}
    lines = []
    for name, times in rows.items():
        plain = f"{name.split(',')[0]}, plain loop"
        slowest, fastest = num_images / max(times), num_images / min(times)
        ratio = "" if name == plain else f"   {medians[plain] / medians[name]:.2f} x plain loop"
        lines.append(f"{name:20s} {num_images / medians[name]:9.0f} images/s [{slowest:.0f}, {fastest:.0f}]{ratio}")
    return lines


def main() -> int:
    """Makes the tree, measures, prints, and removes the tree; 1 if memory grew by more than is allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="velm_indexing_") as folder:
        root, scratch = Path(folder) / "tree", Path(folder)
        with ProcessPoolExecutor(1) as pool:  # apart, so that it does not count in this process's peak memory
            num_bytes = pool.submit(make_tree, root, num_images=arguments.images).result()
            pool.submit(make_tree, scratch / "few", num_images=10 * DEFECT_EVERY).result()
        time.sleep(2.5)  # the index does not remember files younger than two seconds
        index(scratch / "few", None, num_threads=arguments.threads, num_images=10 * DEFECT_EVERY)
        before = peak_rss_mb()
        rows = measure(
            root, scratch, num_images=arguments.images, repeats=arguments.repeats, num_threads=arguments.threads
        )
        increase = peak_rss_mb() - before
    print(f"{machine()}; {arguments.threads} threads for the index")
    size = f"{SIZE_HW[0]}x{SIZE_HW[1]}, {num_bytes / 1e6:.0f} MB"
    print(f"{arguments.images} images of {size}; median of {arguments.repeats} [slowest, fastest]")
    print("\n".join(report(rows, num_images=arguments.images)))
    print(f"peak memory increase {increase:.0f} MB (at most {MAX_RSS_INCREASE_MB:.0f} MB allowed)")
    return 0 if increase < MAX_RSS_INCREASE_MB else 1


if __name__ == "__main__":
    sys.exit(main())
