"""Trains one model with velm_train, with TRL's SFTTrainer and with a plain Lightning loop, in turns, on the same work.

    OMP_NUM_THREADS=1 python experiments/benchmarks/engine/compare.py --output compare.json
    OMP_NUM_THREADS=1 python experiments/benchmarks/engine/compare.py --assets ~/.cache/velm_train/assets

Without --assets the model is a small Qwen2.5-VL with random weights; with them it is the embedded model with its real
ones, which TRL cannot take. Weights, LoRA, pictures, tokens, order, batch, optimiser, rates and precision are the same
for all: before anything is timed, the token ids and labels of every system are compared, and afterwards the loss of
every step. What is timed begins with a model and picture files: writing prompts, storing features, building trainers
and the check of packing count. Memory is measured in processes of their own. Ratios are taken turn by turn.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from embedded_case import EmbeddedCase
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
from scene import Counts, Scene, make_scene
from small_qwen import Sizes
from systems import QwenCase

from velm_train.assets.library import AssetLibrary
from velm_train.core.progress import SilentProgress

Case = QwenCase | EmbeddedCase

TARGETS = {"velm_train": 3.0, "velm_train, no cache": 1.3}
"""System -> samples/s as a multiple of the reference's that it is to reach."""

LOSS_TOLERANCE = 1e-3
"""Largest relative difference of a step's loss; the embedded model's features lie in float16 on the disk."""


def compare(case: Case, scene: Scene, args: argparse.Namespace) -> dict[str, object]:
    """Measures, prints and returns everything."""
    lengths = case.lengths(scene)
    names = args.systems or case.names
    readings = in_turns(names, lambda name: case.prepare(name, scene), repeats=args.repeats)
    options = ["--images", str(args.images), "--questions", str(args.questions), "--batch-size", str(args.batch_size)]
    options += ["--epochs", "1", *(["--assets", str(args.assets)] if args.assets else [])]
    memory = {name: memory_in_own_process(__file__, name, options) for name in names}
    num_tokens = sum(lengths[number] for number in scene.visits)
    print(
        f"{len(scene.visits)} samples, {scene.num_steps} steps, {num_tokens} useful tokens; median [range] of "
        f"{args.repeats}; memory in the first epoch"
    )
    print_table(
        [
            _row(name, runs, readings[case.reference], scene, num_tokens=num_tokens, reference=case.reference)
            | {"MiB above start": round(memory[name])}
            for name, runs in readings.items()
        ]
    )
    for name, target in TARGETS.items():
        if name not in readings:
            continue
        print(_verdict(name, target, ratios(readings[case.reference], readings[name]), reference=case.reference))
    apart = show_losses({name: runs[0].losses for name, runs in readings.items()}, reference=case.reference)
    return {
        "readings": {name: [asdict(one) for one in runs] for name, runs in readings.items()},
        "useful tokens": num_tokens,
        "MiB above start": memory,
        "largest relative difference": apart,
    }


def show_losses(losses: Mapping[str, Sequence[float]], *, reference: str) -> dict[str, float]:
    """Prints every loss side by side; returns the largest relative differences from the reference.

    Raises:
        SystemExit: if the work was not the same.
    """
    steps = range(len(losses[reference]))
    print_table([{"step": step, **{name: f"{values[step]:.5f}" for name, values in losses.items()}} for step in steps])
    apart = largest_difference(losses, reference=reference)
    print(
        f"largest relative difference from {reference}: "
        + ", ".join(f"{name} {value:.1e}" for name, value in apart.items())
    )
    if max(apart.values()) > LOSS_TOLERANCE:
        sys.exit(f"losses differ by {max(apart.values()):.1e}, more than {LOSS_TOLERANCE}: the work was not the same")
    return apart


def _row(
    name: str, runs: Sequence[Reading], others: Sequence[Reading], scene: Scene, *, num_tokens: int, reference: str
) -> dict[str, object]:
    cpu = [one.cpu_seconds for one in runs]
    return {
        "system": name,
        "CPU s": with_range(cpu),
        "wall s": with_range([one.wall_seconds for one in runs]),
        "samples/CPU s": with_range([len(scene.visits) / one for one in cpu]),
        "useful tokens/CPU s": with_range([num_tokens / one for one in cpu]),
        f"times {reference}": with_range(ratios(others, runs)),
    }


def _verdict(name: str, target: float, found: Sequence[float], *, reference: str) -> str:
    reached = "reached" if sorted(found)[len(found) // 2] >= target else "not reached"
    return f"{name}: target {target} times the samples/s of {reference}: {reached}, {with_range(found)}"


def main() -> None:
    """Reads the command line, runs, prints, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = Counts()
    parser.add_argument("--images", type=int, default=defaults.images)
    parser.add_argument("--questions", type=int, default=defaults.questions, help="about each picture")
    parser.add_argument("--epochs", type=int, default=defaults.epochs)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--systems", nargs="+", help="some of them alone, the reference among them")
    parser.add_argument("--assets", type=Path, help="folder of the fetched assets, to compare on the embedded model")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    counts = Counts(images=args.images, questions=args.questions, epochs=args.epochs, batch_size=args.batch_size)
    case: Case = QwenCase(sizes=Sizes())
    if args.assets:
        case = EmbeddedCase(assets=AssetLibrary(args.assets, progress=SilentProgress()))
    with tempfile.TemporaryDirectory() as folder, quiet():
        scene = make_scene(Path(folder), counts)
        chosen = [args.memory_of] if args.memory_of else args.systems or case.names
        if not args.memory_of and not {case.reference} <= set(chosen) <= set(case.names):
            parser.error(f"--systems must hold {case.reference!r}; allowed: {', '.join(map(repr, case.names))}")
        for name in chosen:
            case.prepare(name, scene.first_steps(1))()  # what is imported or made once is not of the systems
        if args.memory_of:
            print(peak_above_start(case.prepare(args.memory_of, scene)))
            return
        print(f"{machine_words()}\n{counts}\n{'embedded model' if args.assets else case}")
        figures = compare(case, scene, args)
    if args.output:
        figures |= {"machine": machine_words(), "counts": asdict(counts)}
        args.output.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
