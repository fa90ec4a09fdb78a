"""Times report.html for 5,000 predictions and weighs it: at most 20 seconds and 15 MB.

    OMP_NUM_THREADS=1 python experiments/benchmarks/report_page.py

Hand-made predictions of 15 categories with 6 types each, a run and three rows beside it, and a gallery as a run makes
it: images of 1200 x 900 pixels of noise, which compress badly, read from disk and shown as outline, heatmap, crop and
second look. Wall and CPU seconds, once; scoring is timed apart, for it is no part of the page.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from velm_train.cli.gallery import IMAGES_PER_OUTCOME, PICTURE_SIDE_PX, choose_shown
from velm_train.core.gate_card import AlphaRow
from velm_train.core.images import read_rgb, write_png
from velm_train.core.inspection import NamedOption
from velm_train.core.records import BoxXYXY, Prediction
from velm_train.core.report_facts import GateFacts, Outcome, PageFacts
from velm_train.core.scores import LocalisationScores, Score, Scoreboard
from velm_train.metrics.error_sources import error_sources
from velm_train.metrics.scoreboard import System, make_scoreboard
from velm_train.metrics.system import majority_predictions, perfect_gate_majority_predictions
from velm_train.metrics.table import make_table
from velm_train.reporting.content import Example, ReportContent
from velm_train.reporting.figures import Picture, example_pictures, look_picture
from velm_train.reporting.manifest import StageMeter, collect_manifest, describe_machine
from velm_train.reporting.report import write_report
from velm_train.reporting.results import Results, write_results

CATEGORIES = tuple(f"category_{number:02d}" for number in range(15))
TYPES = ("bent", "crack", "cut", "hole", "scratch", "stain")
LABEL_SETS = dict.fromkeys(CATEGORIES, TYPES)
CROP: BoxXYXY = (400, 300, 800, 620)
CELLS: tuple[BoxXYXY, ...] = ((400, 300, 480, 380), (640, 300, 720, 380), (480, 460, 560, 540), (720, 540, 800, 620))
IMAGE_HW = (900, 1200)
MAX_SECONDS, MAX_BYTES = 20.0, 15_000_000


def make_rows(number: int) -> list[Prediction]:
    """Returns rows with every outcome: two of five images are good, one defect in ten is missed by the gate."""
    rng = np.random.default_rng(0)
    return [_row(index, rng) for index in range(number)]


def _row(index: int, rng: np.random.Generator) -> Prediction:
    category = CATEGORIES[index % len(CATEGORIES)]
    truth = "good" if rng.random() < 0.4 else TYPES[rng.integers(len(TYPES))]
    flagged = bool(rng.random() < (0.05 if truth == "good" else 0.9))
    answers = [*TYPES, "no defect", "none of these"]
    values = rng.normal(-3.0, 1.5, len(answers))
    if truth in TYPES:
        values[TYPES.index(truth)] += 2.0
    said = answers[int(values.argmax())]
    named = {"no defect": "good", "none of these": None}
    return Prediction(
        image_id=f"set/{category}/test/{truth}/{index:05d}.png",
        category=category,
        group="seen" if int(category[-2:]) < 10 else "unseen",
        gt_defect_type=truth,
        anomaly_score=float(rng.normal(3.0 if flagged else 1.0, 0.4)),
        p_value=0.01 if flagged else 0.5,
        pred_label=flagged,
        gate_policy="detector",
        option_log_likelihoods=dict(zip(answers, values.tolist(), strict=True)) if flagged else {},
        pred_defect_type=(named[said] if said in named else said) if flagged else "good",
        response="",
        region_boxes_xyxy=(CROP,) if flagged else (),
        seconds={"detect": 0.1},
        hashes={"model": "0" * 64},
    )


def make_board(rows: Sequence[Prediction], *, num_bootstrap: int) -> Scoreboard:
    """Scores the run, a copy of it and the two trivial rows."""
    systems = [
        System(name="run", predictions=rows),
        System(name="the same again", predictions=rows),
        System(
            name="perfect gate",
            predictions=perfect_gate_majority_predictions(rows, label_sets=LABEL_SETS),
            trivial=True,
        ),
        System(name="majority type", predictions=majority_predictions(rows, label_sets=LABEL_SETS), trivial=True),
    ]
    return make_scoreboard(systems, label_sets=LABEL_SETS, num_bootstrap=num_bootstrap, seed=0, unknown_types={})


def make_gates(rows: Sequence[Prediction]) -> tuple[GateFacts, ...]:
    """Returns one gate a category with the scores of its images."""
    unknown = Score.undefined("not measured here")
    row = AlphaRow(
        alpha=0.05,
        reachable=True,
        num_needed=19,
        threshold=2.0,
        promised_rate=0.05,
        pac_upper_95=0.07,
        worst_case=None,
        expected_low=0,
        expected_high=9,
        false_alarms=unknown,
        misses=unknown,
        verdict="consistent",
        note="",
    )
    return tuple(
        GateFacts(
            category=name,
            unit="images",
            calibration="leave_one_out",
            num_calibration=200,
            alpha=0.05,
            image_threshold=2.0,
            guarantee="At most 5 % of normal images on average.",
            row=row,
            image_auroc=unknown,
            localisation=LocalisationScores(pixel_auroc=unknown, aupro=unknown),
            calibration_scores=tuple(np.linspace(0.5, 2.2, 200).tolist()),
            normal_scores=tuple(r.anomaly_score for r in rows if r.category == name and r.gt_defect_type == "good"),
            defect_scores=tuple(r.anomaly_score for r in rows if r.category == name and r.gt_defect_type != "good"),
        )
        for name in CATEGORIES
    )


def make_gallery(
    rows: Mapping[str, Prediction], shown: Mapping[str, Outcome], *, image_path: Path
) -> tuple[Example, ...]:
    """Reads one image for every example and draws it as a run does."""
    return tuple(_example(rows[image_id], outcome, image_path) for image_id, outcome in shown.items())


def _example(row: Prediction, outcome: Outcome, image_path: Path) -> Example:
    values = row.option_log_likelihoods
    total = sum(np.exp(list(values.values())).tolist())
    options = [
        NamedOption(
            answer=name, defect_type=name, log_likelihood=value, probability=float(np.exp(value)) / total, in_set=None
        )
        for name, value in sorted(values.items(), key=lambda pair: -pair[1])
    ]
    return Example(
        outcome=outcome,
        image_id=row.image_id,
        category=row.category,
        group=row.group,
        gt_name=str(row.gt_defect_type),
        pred_name=str(row.pred_defect_type),
        anomaly_score=row.anomaly_score,
        image_threshold=2.0,
        options=tuple(options),
        abstained=False,
        pictures=_pictures(read_rgb(image_path)),
        note="p = 0.010",
    )


def _pictures(image: np.ndarray) -> tuple[Picture, ...]:
    contour = np.array([(420, 320), (700, 330), (690, 600), (430, 590)], dtype=np.int64)
    anomaly_map = np.random.default_rng(1).random((64, 64), dtype=np.float32)
    drawn = example_pictures(
        image,
        anomaly_map=anomaly_map,
        low=0.5,
        high=1.0,
        contours=[contour],
        crop_box_xyxy=CROP,
        max_side_px=PICTURE_SIDE_PX,
    )
    return (*drawn, look_picture(image, view_box_xyxy=CROP, cells_xyxy=CELLS, max_side_px=PICTURE_SIDE_PX))


@contextmanager
def timed(name: str, seconds: dict[str, dict[str, float]]) -> Iterator[None]:
    """Notes wall and CPU seconds of the block."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    seconds[name] = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def measure(number: int, *, num_bootstrap: int, folder: Path) -> dict[str, object]:
    """Makes the page once and returns seconds and sizes."""
    seconds: dict[str, dict[str, float]] = {}
    image_path = folder / "noise.png"
    write_png(np.random.default_rng(2).integers(0, 256, (*IMAGE_HW, 3), dtype=np.uint8), image_path)
    rows = make_rows(number)
    with timed("score", seconds):
        board = make_board(rows, num_bootstrap=num_bootstrap)
    with timed("page", seconds):
        table = make_table(rows, label_sets=LABEL_SETS)
        shown = choose_shown(table)
        with timed("gallery, a part of it", seconds):
            examples = make_gallery({row.image_id: row for row in rows}, shown, image_path=image_path)
        page = PageFacts(
            title=f"{number} predictions",
            subtitle="hand-made",
            notices=(),
            display_names={},
            gates=make_gates(rows),
            errors=error_sources(table),
            shown=tuple(shown),
            second_looks=(),
            second_look_note="",
            abstain_below=0.0,
            licences=(),
        )
        manifest = collect_manifest(StageMeter(), seeds={}, hashes={}, accelerators=[], project_folder=folder)
        content = ReportContent(
            page=page, scoreboard=board, examples=examples, config_yaml="seed: 0\n", manifest=manifest
        )
        write_report(content, folder / "report.html")
        write_results(Results(scoreboard=board, manifest=manifest, page=page), folder / "results.json")
    sizes = {name: (folder / name).stat().st_size for name in ("report.html", "results.json")}
    gallery = {"images": len(shown), "of each outcome at most": IMAGES_PER_OUTCOME, "pictures": 4 * len(shown)}
    return {"predictions": number, "seconds": seconds, "bytes": sizes, "gallery": gallery}


def main() -> None:
    """Prints the measures as JSON and says whether both limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=5000)
    parser.add_argument("--bootstrap", type=int, default=200, help="resamples of the scoreboard's intervals")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.predictions, num_bootstrap=arguments.bootstrap, folder=Path(folder))
    machine = describe_machine([])
    print(json.dumps(found | {"cpu": machine.cpu, "cores": machine.num_cores}, indent=1))
    wall, size = found["seconds"]["page"]["wall"], found["bytes"]["report.html"]  # type: ignore[index]
    print(f"page in {wall:.1f} s (at most {MAX_SECONDS:.0f}), {size / 1e6:.1f} MB (at most {MAX_BYTES / 1e6:.0f})")
    if wall > MAX_SECONDS or size > MAX_BYTES:
        raise SystemExit("a limit is not kept")


if __name__ == "__main__":
    main()
