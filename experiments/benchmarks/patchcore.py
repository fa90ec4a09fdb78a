"""Times PatchCore against anomalib's on the same backbone, and its cost as images and bank grow.

    OMP_NUM_THREADS=2 python experiments/benchmarks/patchcore.py --output patchcore.json

Same picture files, network (random weights, one copy for all), input size, batch size, coreset ratio and float32. Three
systems take turns in one process, in another order each time: ours (fit with leave-one-out scores), anomalib's torch
model fed by its own reader, transform and coreset sampler, and anomalib's Engine as its users run it (no workers, no
evaluator, no pictures drawn). Memory is measured in processes of their own. Before anything is timed, both have to give
the same distances and weighted scores on the same bank. As whole systems they differ by design (ours gives every layer
a mean norm of 1, counts no zeros beyond the edge, damps it by what good images show there, and smooths before it reads
the score); how much is printed.

anomalib's sampler makes a block of (patches x projected width) floats at every step. Blocks below 32 MB come from the
heap of the C library, which they can fragment by megabytes a step, until no memory is left: hence the limit, which both
obey, and the default size, whose blocks are larger and returned at once.
"""

import argparse
import contextlib
import importlib
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

os.environ.update(TQDM_DISABLE="1", HF_HUB_OFFLINE="1")  # read when these are imported

import numpy as np
import torch
from patchcore_measures import MEASURED, exponent, growth, memory_mib, timed, zeros_counted
from patchcore_systems import NUM_NEIGHBOURS, SYSTEMS, Bench, write_pictures
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from velm_train.core.images import read_rgb
from velm_train.core.seeding import generator
from velm_train.detectors.coreset import greedy_coreset, projection_matrix
from velm_train.detectors.neighbours import MemoryBank
from velm_train.reporting.manifest import describe_machine


def check_agreement(bench: Bench) -> dict[str, float]:
    """Compares distances, weights, banks and rankings; nothing is timed where these differ."""
    from anomalib.models.components import KCenterGreedy  # noqa: PLC0415 - slow to import

    module = bench.patchcore()
    model = module.model.train()
    to_input = module.pre_processor.transform

    def embed(paths: Sequence[Path]) -> torch.Tensor:
        pictures = [torch.from_numpy(read_rgb(path)).permute(2, 0, 1).float() / 255 for path in paths]
        return model(torch.stack([to_input(picture) for picture in pictures]))

    with torch.inference_mode():
        patches = torch.cat([embed(paths) for paths in bench.batches(bench.fitted[:8])])
        queries = torch.cat([embed(paths) for paths in bench.batches(bench.judged[:4] + bench.judged[-4:])])
        theirs = KCenterGreedy(patches, sampling_ratio=0.03).select_coreset_idxs()
        points = patches @ projection_matrix(patches.shape[1], seed=0)
        own = greedy_coreset(points, num_selected=len(theirs), seed=0)
        random = torch.from_numpy(generator(0, "random bank").permutation(len(patches))[: len(theirs)].copy())
        model.memory_bank = patches[own]
        bank = MemoryBank(patches[own], channels=[patches.shape[1]])
        one = torch.ones(1)
        distances, rows = bank.nearest(queries, scales=one)
        expected, expected_rows = model.nearest_neighbors(queries, n_neighbors=1)
        scores = model.compute_anomaly_score(expected.reshape(8, -1), expected_rows.reshape(8, -1), queries)
        weighted = []
        for index, patch in enumerate(distances.reshape(8, -1).argmax(dim=1).tolist()):
            place = index * len(distances) // 8 + patch
            weight = bank.neighbourhood_weight(
                queries[place], nearest_row=int(rows[place]), num_neighbours=NUM_NEIGHBOURS, scales=one
            )
            weighted.append(float(distances[place]) * weight)
        radii = {
            name: float(MemoryBank(patches[chosen], channels=[patches.shape[1]]).nearest(patches, scales=one)[0].max())
            for name, chosen in (("ours", own), ("anomalib", torch.tensor(theirs)), ("random", random))
        }
    return {
        "largest relative difference of distances": float(((distances - expected).abs() / expected).max()),
        "largest relative difference of weighted scores": float((torch.tensor(weighted) / scores - 1).abs().max()),
        **{f"covering radius of the bank, {name}": radius for name, radius in radii.items()},
    }


def stages(bench: Bench) -> dict[str, dict[str, float]]:
    """Returns seconds of one fit and one predict of ours by stage; reading overlaps with the network."""
    found: dict[str, dict[str, float]] = {}
    fit, predict = bench.ours()
    for phase, run, paths in (("fit", fit, bench.fitted), ("predict", predict, bench.judged)):
        spent: dict[str, float] = {}
        with contextlib.ExitStack() as stack:
            for owner, name, title in MEASURED:
                stack.enter_context(timed(owner, name, title, spent))
            started = time.perf_counter()
            run()
            total = time.perf_counter() - started
        spent["everything else"] = total - sum(spent.values())
        started = time.perf_counter()
        for path in paths:
            read_rgb(path)
        found[phase] = {**spent, "total": total, "reading alone, one thread": time.perf_counter() - started}
    return found


def take_turns(bench: Bench) -> tuple[dict[str, list[dict[str, float]]], dict[str, np.ndarray]]:
    """Returns the seconds of every system and repeat, and the scores of its last repeat."""
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in bench.args.systems}
    scores: dict[str, np.ndarray] = {}
    for repeat in range(bench.args.repeats):
        shift = repeat % len(bench.args.systems)
        for name in bench.args.systems[shift:] + bench.args.systems[:shift]:
            fit, predict = bench.system(name)
            started, cpu_started = time.perf_counter(), time.process_time()
            fit()
            fitted, cpu_fitted = time.perf_counter(), time.process_time()
            scores[name] = predict()
            ended, cpu_ended = time.perf_counter(), time.process_time()
            seconds[name].append(
                {
                    "fit": fitted - started,
                    "predict": ended - fitted,
                    "both": ended - started,
                    "fit, CPU": cpu_fitted - cpu_started,
                    "predict, CPU": cpu_ended - cpu_fitted,
                    "both, CPU": cpu_ended - cpu_started,
                }
            )
            print(f"  repeat {repeat + 1} {name}: {seconds[name][-1]}", file=sys.stderr, flush=True)
    return seconds, scores


def memory_of(name: str, bench: Bench) -> dict[str, float]:
    """Returns the peak memory of a process that runs one system, and what it held before it began."""
    command = [sys.executable, __file__, "--memory-of", name, "--folder", str(bench.folder)]
    for option in ("backbone", "height", "width", "batch", "ratio"):
        command += [f"--{option}", str(getattr(bench.args, option))]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return found


def run_for_memory(name: str, bench: Bench) -> None:
    """Fits and judges once, and prints the process's memory before and at its peak, in MiB.

    All import the same, since freed memory of an import serves what comes behind it.
    """
    importlib.import_module("anomalib.models")
    fit, predict = bench.system(name)
    before = memory_mib("VmRSS")
    fit()
    fitted = memory_mib("VmHWM")
    predict()
    print(json.dumps({"before": before, "peak of fit": fitted, "peak": memory_mib("VmHWM")}))


def print_table(rows: Sequence[dict[str, object]]) -> None:
    """Prints rows of equal keys under one heading."""
    texts = [list(rows[0])]
    texts += [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    widths = [max(len(text[column]) for text in texts) for column in range(len(texts[0]))]
    for text in texts:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(text, widths, strict=True)))


def compare(bench: Bench) -> dict[str, object]:
    """Runs and prints everything but growth; returns it."""
    agreement = check_agreement(bench)
    print("agreement on one bank, and banks of one size")
    for name, value in agreement.items():
        print(f"  {name}: {value:.3g}", flush=True)
    seconds, scores = take_turns(bench)
    labels = [path.parent.name == "bad" for path in bench.judged]
    counts = {"fit": len(bench.fitted), "predict": len(bench.judged), "both": len(bench.fitted) + len(bench.judged)}
    medians = {
        name: {phase: statistics.median(run[phase] for run in runs) for phase in runs[0]}
        for name, runs in seconds.items()
    }
    memory = {name: memory_of(name, bench) for name in seconds}
    fit, predict = bench.ours(smoothing_sigma=0.0, even_edges=False)
    with zeros_counted():
        fit()
        alike = predict()
    ranks = {name: float(spearmanr(scores["ours"], scores[name]).statistic) for name in seconds}
    ranks |= {f"{name}, ours alike": float(spearmanr(alike, scores[name]).statistic) for name in seconds}
    aurocs = {name: float(roc_auc_score(labels, scores[name])) for name in seconds}
    print(f"images/s, median of {bench.args.repeats}; memory above the start of the run, MiB; (times ours)", flush=True)
    rows = []
    for name in seconds:
        row: dict[str, object] = {"system": name}
        for phase, count in counts.items():
            ratio = medians[name][phase] / medians["ours"][phase]
            row[phase] = f"{count / medians[name][phase]:.2f} ({ratio:.2f})"
        row["CPU seconds"] = (
            f"{medians[name]['both, CPU']:.1f} ({medians[name]['both, CPU'] / medians['ours']['both, CPU']:.2f})"
        )
        row["memory"] = memory[name]["peak"] - memory[name]["before"]
        row["peak"] = memory[name]["peak"]
        rows.append(
            {**row, "rank correlation": ranks[name], "ours alike": ranks[f"{name}, ours alike"], "AUROC": aurocs[name]}
        )
    print_table(rows)
    print(
        "ours alike: not smoothed, not damped, and averaged with zeros beyond the edge as theirs, AUROC",
        roc_auc_score(labels, alike),
    )
    spent = stages(bench)
    for phase, parts in spent.items():
        print(f"ours, {phase}, seconds: " + ", ".join(f"{title} {value:.2f}" for title, value in parts.items()))
    return {
        "agreement": agreement,
        "seconds": seconds,
        "medians": medians,
        "memory": memory,
        "rank correlation": ranks,
        "auroc": aurocs,
        "stages": spent,
    }


def main() -> None:
    """Reads the command line, runs, prints, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18", help="a network of timm with layer2 and layer3")
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--fitted", type=int, default=50)
    parser.add_argument("--judged", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--memory-limit-gib", type=int, default=8, help="of address space, for every process")
    parser.add_argument("--growth", action="store_true", help="measure growth instead of comparing")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    parser.add_argument("--memory-of", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (args.memory_limit_gib * 2**30,) * 2)  # inherited by child processes
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if args.memory_of:
        run_for_memory(args.memory_of, Bench(args.folder, args=args))
        return
    machine = describe_machine(())
    print(f"machine: {machine.cpu}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; {vars(args)}")
    figures: dict[str, object] = {"settings": {**vars(args), "output": str(args.output)}, "load": os.getloadavg()}
    if args.growth:
        found = growth(args.backbone)
        figures["growth"] = found
        for against, rows in found.items():
            print_table(rows)
            slopes = {of: exponent(rows, of=of, against=against) for of in rows[0] if isinstance(rows[0][of], float)}
            print(f"growth with {against}, exponents: " + ", ".join(f"{k} {v:.2f}" for k, v in slopes.items()))
            figures[f"exponents by {against}"] = slopes
    else:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "pictures"
            write_pictures(folder, num_fitted=args.fitted, num_judged=args.judged, size_hw=(300, 400))
            figures.update(compare(Bench(folder, args=args)))
    if args.output:
        args.output.write_text(json.dumps(figures, indent=1, default=str))


if __name__ == "__main__":
    main()
