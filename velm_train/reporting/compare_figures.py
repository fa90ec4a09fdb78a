"""Scores, costs and W&B summaries of a run go in; figures by the names that loggers use come out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from velm_train.core.comparison import ComparedRun, CurvePoint, RunCost
from velm_train.core.scores import RowScores, Score
from velm_train.reporting.compare_wandb import WandbRun, numbers
from velm_train.reporting.manifest import Manifest

RECALL = "system/end_to_end_balanced_recall"
LOSS, STEP, RUNTIME = "loss/total", "trainer/global_step", "_runtime"
MAX_CURVE_POINTS = 400
NO_INTERVAL = "from W&B's summary, which has no intervals"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One column of the metric table.

    Attributes:
        key: the name that loggers use.
        title: in words, without the unit.
    """

    key: str
    title: str

    @property
    def lines(self) -> tuple[str, ...]:
        """The title as a narrow column's heading, in two lines at most."""
        first, _, group = self.title.partition(", ")
        if not group:
            first, _, group = self.title.partition(" ")
        lines = (first[:1].upper() + first[1:], group)
        return tuple(line for line in lines if line)


FIGURES = (
    Figure(key=RECALL, title="end to end"),
    Figure(key="system/normal_recall", title="good passed"),
    Figure(key="system/velm_accuracy", title="published accuracy"),
    Figure(key="gate/image_auroc", title="gate AUROC"),
    Figure(key="gate/miss_rate", title="missed"),
    Figure(key="gate/false_alarm_rate", title="false alarms"),
    Figure(key="calibration/expected_calibration_error", title="ECE"),
)
"""In the order of the columns; end-to-end recall of each group follows the one over all images."""


def figures_of(scores: RowScores) -> dict[str, Score]:
    """Returns a scored run's figures."""
    overall = scores.overall
    figures = {
        RECALL: overall.system.end_to_end_balanced_recall,
        "system/normal_recall": overall.system.normal_recall,
        "system/velm_accuracy": overall.system.velm_accuracy,
        "gate/image_auroc": overall.detection.image_auroc,
        "gate/miss_rate": overall.detection.miss_rate,
        "gate/false_alarm_rate": overall.detection.false_alarm_rate,
        "calibration/expected_calibration_error": overall.calibration.expected_calibration_error,
    }
    return figures | {f"{RECALL}/{group.name}": group.system.end_to_end_balanced_recall for group in scores.groups}


def figures_of_summary(run: WandbRun) -> dict[str, Score]:
    """Returns the figures that a run logged to W&B, without intervals."""
    known = tuple(figure.key for figure in FIGURES)
    return {
        name: Score(value=value, low=None, high=None, n=0, k=None, interval="none", note=NO_INTERVAL)
        for name, value in numbers(run.summary).items()
        if name in known or name.startswith(f"{RECALL}/")
    }


def shown_figures(runs: Sequence[ComparedRun]) -> tuple[Figure, ...]:
    """Returns the columns that at least one run has, groups behind the figure over all images."""
    names = dict.fromkeys(name for run in runs for name in run.scores)
    groups = sorted(name.removeprefix(f"{RECALL}/") for name in names if name.startswith(f"{RECALL}/"))
    columns: list[Figure] = []
    for figure in FIGURES:
        columns += [figure] if figure.key in names else []
        if figure.key == RECALL and (len(groups) > 1 or RECALL not in names):
            columns += [Figure(key=f"{RECALL}/{name}", title=f"{figure.title}, {name}") for name in groups]
    return tuple(columns)


def score_of(run: ComparedRun, key: str) -> Score:
    """Returns a run's figure, undefined if the run has none."""
    return run.scores[key] if key in run.scores else Score.undefined("not known of this run")


def cost_of(scores: RowScores, manifest: Manifest) -> RunCost:
    """Returns what a finished run took."""
    return RunCost(
        seconds_per_image={stage.stage: stage.mean for stage in scores.seconds},
        wall_seconds=sum(stage.wall_seconds for stage in manifest.stages),
        reused_stages=tuple(stage.stage for stage in manifest.stages if stage.reused),
        peak_memory_bytes=_highest(stage.peak_memory_bytes for stage in manifest.stages),
        accelerator_peak_bytes=_highest(stage.accelerator_peak_bytes for stage in manifest.stages),
    )


def cost_of_summary(run: WandbRun) -> RunCost:
    """Returns what W&B knows of a run's cost: how long it was open."""
    summary = numbers(run.summary)
    return RunCost(
        seconds_per_image={},
        wall_seconds=summary[RUNTIME] if RUNTIME in summary else None,
        reused_stages=(),
        peak_memory_bytes=None,
        accelerator_peak_bytes=None,
    )


def curve_of(histories: Sequence[WandbRun]) -> tuple[CurvePoint, ...]:
    """Returns the training loss by step, thinned evenly to 400 points.

    Args:
        histories: W&B runs of one run, oldest first; a resumed run repeats steps, of which the last counts.
    """
    losses: dict[int, float] = {}
    for run in histories:
        for row in run.history:
            values: Mapping[str, float] = numbers(row)
            if LOSS in values and STEP in values:
                losses[int(values[STEP])] = values[LOSS]
    points = [CurvePoint(step=step, loss=losses[step]) for step in sorted(losses)]
    stride = max(1, -(-len(points) // MAX_CURVE_POINTS))
    return tuple(points[::stride])


def facts_of(manifest: Manifest) -> dict[str, str]:
    """Returns versions, checkout and machine of a run as name -> text."""
    checkout = manifest.checkout
    machine = manifest.machine
    return {
        "commit": "none" if checkout is None else checkout.commit[:12] + (" with changes" if checkout.dirty else ""),
        "machine": f"{machine.cpu}, {machine.num_cores} cores",
        "accelerators": ", ".join(machine.accelerators) or "none",
        "python": manifest.python,
        **{f"package {name}": version for name, version in manifest.packages.items()},
    }


def _highest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
