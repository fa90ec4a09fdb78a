"""Prints how velm_train's training cost grows with samples, with visual tokens and with second-look tokens, as slopes.

    OMP_NUM_THREADS=1 python experiments/benchmarks/engine/growth.py --output growth.json

samples   one epoch over 100 to 10,000 samples, a smallest model, 16 visual tokens: the cost of the engine itself
tokens    256 to 4096 visual tokens of one picture in every pass, the model of compare.py
K         0 to 65 second-look tokens of each picture of 256 tokens, the model of compare.py with a look-twice adapter

CPU seconds of all that compare.py times: prompts, features, trainer, training. A slope is that of the straight line
through the logarithms: 1 is proportional, 2 the square. "times the first" compares with the first row.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from measures import machine_words, print_table, quiet, read, slope
from own import ALL_LEVERS, Levers
from scene import Counts, make_scene
from small_qwen import SMALLEST, Sizes
from systems import NO_SECOND_LOOK, new_model, own_run, renderer_of

from velm_train.models.look_twice.adapter import LookTwiceSettings

ALONE = replace(ALL_LEVERS, questions_per_image=1)
TOKEN_GRIDS = ((16, 16), (16, 32), (32, 32), (32, 64), (64, 64))
POOLS = (0, 1, 2, 4, 8)
"""Bins along each side of a picture; K is 1 + pool * pool, or 0 without adapter."""

Row = dict[str, float]


def cost(
    counts: Counts, sizes: Sizes, levers: Levers, *, look_twice: LookTwiceSettings = NO_SECOND_LOOK
) -> dict[str, float]:
    """Returns the CPU time of a training, and of each sample in it."""
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(Path(folder), counts)
        model = new_model(sizes, scene, look_twice=look_twice)
        seconds = read(own_run(model, renderer_of(model), scene, levers)).cpu_seconds
    return {"CPU s": seconds, "CPU ms a sample": 1e3 * seconds / len(scene.visits)}


def by_samples(most: int) -> list[Row]:
    """Returns one row a number of samples; there are four questions about each picture."""
    return [
        {
            "samples": count,
            **cost(Counts(images=count // 4, epochs=1, batch_size=20, grids_hw=((4, 4),)), SMALLEST, ALL_LEVERS),
        }
        for count in (100, 300, 1000, 3000, 10_000)
        if count <= most
    ]


def by_tokens() -> list[Row]:
    """Returns one row a number of visual tokens; a pass shows one picture, so that only its length grows."""
    return [
        {
            "tokens": rows * columns,
            **cost(Counts(images=2, questions=1, epochs=4, batch_size=1, grids_hw=((rows, columns),)), Sizes(), ALONE),
        }
        for rows, columns in TOKEN_GRIDS
    ]


def by_second_look() -> list[Row]:
    """Returns one row a number of second-look tokens, the first without adapter."""
    counts = Counts(images=4, questions=1, epochs=4, batch_size=4, grids_hw=((16, 16),))
    return [
        {
            "K": 1 + pool**2 if pool else 0,
            **cost(
                counts,
                Sizes(),
                ALONE,
                look_twice=LookTwiceSettings(source="learned", pool=pool) if pool else NO_SECOND_LOOK,
            ),
        }
        for pool in POOLS
    ]


def show(rows: Sequence[Row], *, against: str) -> dict[str, float]:
    """Prints a table and its slopes over the rows in which what grows is above 0, and returns the slopes."""
    print(f"\n{against}")
    print_table([{**row, "times the first": row["CPU s"] / rows[0]["CPU s"]} for row in rows])
    points = [(row[against], row["CPU s"]) for row in rows if row[against] > 0]
    found = {"all rows": slope(points), "the last two": slope(points[-2:])}
    print("  slope of " + ", of ".join(f"{which} {value:.2f}" for which, value in found.items()))
    return found


def main() -> None:
    """Reads the command line, runs, prints, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000, help="largest number of samples")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    args = parser.parse_args()
    measured: Mapping[str, Callable[[], list[Row]]] = {
        "samples": lambda: by_samples(args.samples),
        "tokens": by_tokens,
        "K": by_second_look,
    }
    figures: dict[str, object] = {"machine": machine_words()}
    print(machine_words())
    with quiet():
        cost(Counts(images=2, epochs=1, grids_hw=((4, 4),)), SMALLEST, ALL_LEVERS)  # imports are made once
        for against, rows_of in measured.items():
            rows = rows_of()
            figures[against] = {"rows": rows, "slopes": show(rows, against=against)}
    if args.output:
        args.output.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
