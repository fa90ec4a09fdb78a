"""Switches velm_train's levers on and off one by one, on the work of compare.py, and prints what each is worth.

    OMP_NUM_THREADS=1 python experiments/benchmarks/engine/ablation.py --output ablation.json

"nothing" is what a plain loop does, in our own engine: towers in every step, padding, logits of all positions. Every
row of the first block adds one lever to the row before it; every row of the second takes one from all of them. The
third trades time for memory, or tries what pays on other machines. Losses of all rows are compared with those of the
first. Storing features, the check of packing and compilation count.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from measures import (
    Reading,
    in_turns,
    largest_difference,
    machine_words,
    memory_in_own_process,
    peak_above_start,
    print_table,
    quiet,
    ratios,
    with_range,
)
from own import ALL_LEVERS, NO_LEVERS, Levers
from scene import Counts, Scene, make_scene
from small_qwen import Sizes
from systems import Run, new_model, own_run, renderer_of

NOTHING, ALL = "nothing", "+ shared prefix = all"

BLOCKS: Mapping[str, Mapping[str, Levers]] = {
    "one more in each row": {
        NOTHING: NO_LEVERS,
        "+ supervised logits": replace(NO_LEVERS, supervised_logits=True),
        "+ rows without padding": replace(NO_LEVERS, supervised_logits=True, rows=True),
        "+ feature cache": replace(ALL_LEVERS, questions_per_image=1),
        ALL: ALL_LEVERS,
    },
    "all but one": {
        "all but the cache": replace(ALL_LEVERS, cache=False),
        "all but rows, and so sharing": replace(ALL_LEVERS, rows=False, questions_per_image=1),
    },
    "time for memory, and compiled": {
        "all, checkpointing full": replace(ALL_LEVERS, checkpointing="full"),
        "all, checkpointing every 2nd": replace(ALL_LEVERS, checkpointing="every_n"),
        "all, compiled blocks": replace(ALL_LEVERS, compile_blocks=True),
    },
}
COMPILED = "all, compiled blocks"
LEVERS = {name: levers for block in BLOCKS.values() for name, levers in block.items()}


def prepare(name: str, sizes: Sizes, scene: Scene) -> Run:
    """Returns a run with a model of its own."""
    model = new_model(sizes, scene)
    return own_run(model, renderer_of(model), scene, LEVERS[name])


def _row(name: str, runs: Sequence[Reading], *, nothing: Sequence[Reading], num_samples: int) -> dict[str, object]:
    cpu = [one.cpu_seconds for one in runs]
    return {
        "levers": name.ljust(30),
        "CPU s": with_range(cpu),
        "samples/CPU s": with_range([num_samples / one for one in cpu]),
        "times nothing": with_range(ratios(nothing, runs)),
    }


def main() -> None:
    """Reads the command line, runs, prints, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=Counts().epochs)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="with compiled blocks, which needs a C++ compiler")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    parser.add_argument("--memory-of", choices=list(LEVERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = Sizes()
    counts = Counts(epochs=args.epochs)
    names = [name for name in LEVERS if args.compile or name != COMPILED]
    with tempfile.TemporaryDirectory() as folder, quiet():
        scene = make_scene(Path(folder), counts)
        prepare(args.memory_of or ALL, sizes, scene.first_steps(1))()
        if args.memory_of:
            print(peak_above_start(prepare(args.memory_of, sizes, scene)))
            return
        print(f"{machine_words()}\n{counts}\n{sizes}")
        readings = in_turns(names, lambda name: prepare(name, sizes, scene), repeats=args.repeats)
        memory = {name: memory_in_own_process(__file__, name, ["--epochs", "1"]) for name in names}
    apart = largest_difference({name: runs[0].losses for name, runs in readings.items()}, reference=NOTHING)
    print(f"{len(scene.visits)} samples, {scene.num_steps} steps; median [range] of {args.repeats}")
    for title, block in BLOCKS.items():
        print(f"\n{title}")
        chosen = [name for name in block if name in readings]
        print_table(
            [
                _row(name, readings[name], nothing=readings[NOTHING], num_samples=len(scene.visits))
                | {"MiB above start": round(memory[name]), "loss apart": f"{apart[name]:.1e}"}
                for name in chosen
            ]
        )
    if args.output:
        figures = {
            "machine": machine_words(),
            "counts": asdict(counts),
            "sizes": asdict(sizes),
            "readings": {name: [asdict(one) for one in runs] for name, runs in readings.items()},
            "MiB above start": memory,
            "largest relative difference": apart,
        }
        args.output.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
