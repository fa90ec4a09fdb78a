"""A comparison goes in; one self-contained HTML page without scripts comes out."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from velm_train.core.comparison import Comparison, PairedTest, RunPair, SettingDifference, Sweep
from velm_train.core.scores import Score
from velm_train.reporting import compare_words, words
from velm_train.reporting.compare_figures import RECALL, Figure, score_of, shown_figures
from velm_train.reporting.compare_plots import colour, difference_strip, forest_plot, loss_plot, seconds_plot
from velm_train.reporting.pages import render_page
from velm_train.reporting.report import Footnotes
from velm_train.reporting.sweep_plots import history_plot, importance_plot, settings_plot

ALL_STAGES = "all stages"
"""The entry of `seconds_per_image` that is the sum over the stages of each image."""

MAX_DRAWN = 20
"""Runs that a drawing shows; beyond that no eye follows, and the tables have all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRow:
    """One kind of cost, a text for each run."""

    title: str
    values: tuple[str, ...]


def render_compare_page(comparison: Comparison) -> str:
    """Returns the page as HTML text."""
    return render_page(
        "compare.html.j2",
        styles=("report.css", "compare.css"),
        names={
            "comparison": comparison,
            "view": CompareView(comparison),
            "say": compare_words,
            "score_of": score_of,
            "footnotes": Footnotes,
        },
    )


def stages_of(comparison: Comparison) -> tuple[str, ...]:
    """Returns the stages of any run in the order they first occur, without their sum."""
    names = dict.fromkeys(stage for run in comparison.runs for stage in run.cost.seconds_per_image)
    return tuple(name for name in names if name != ALL_STAGES)


def cost_rows(comparison: Comparison) -> list[CostRow]:
    """Returns seconds per image by stage and what the run as a whole took."""
    runs = comparison.runs
    rows = [
        CostRow(
            title=f"{stage}, an image" if stage != ALL_STAGES else "all stages, mean of all images",
            values=tuple(
                words.seconds(seconds[stage]) if stage in seconds else words.ABSENT
                for seconds in (run.cost.seconds_per_image for run in runs)
            ),
        )
        for stage in (*stages_of(comparison), ALL_STAGES)
    ]
    walls = tuple(
        words.ABSENT if run.cost.wall_seconds is None else words.seconds(run.cost.wall_seconds) for run in runs
    )
    rows.append(CostRow(title="whole run", values=walls))
    rows.append(
        CostRow(
            title="stages read instead of made",
            values=tuple(", ".join(run.cost.reused_stages) or words.ABSENT for run in runs),
        )
    )
    memory = tuple(words.gigabytes(run.cost.peak_memory_bytes) for run in runs)
    rows.append(CostRow(title="highest memory", values=memory))
    accelerator = tuple(words.gigabytes(run.cost.accelerator_peak_bytes) for run in runs)
    rows.append(CostRow(title="highest accelerator memory", values=accelerator))
    return [row for row in rows if set(row.values) != {words.ABSENT}]


class CompareView:
    """What the template asks about the comparison beyond its plain fields."""

    def __init__(self, comparison: Comparison) -> None:
        """Remembers the comparison."""
        self._comparison = comparison
        self._drawn = comparison.runs[:MAX_DRAWN]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The columns of the metric table."""
        return shown_figures(self._comparison.runs)

    @property
    def num_hidden(self) -> int:
        """Runs that the drawings leave out."""
        return len(self._comparison.runs) - len(self._drawn)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in the order of their colours."""
        return stages_of(self._comparison)

    def colour(self, position: int) -> str:
        """Returns the CSS class of a run's or stage's colour."""
        return colour(position)

    def forests(self) -> list[tuple[str, Markup]]:
        """Returns the drawings of end-to-end recall, over all images or group by group."""
        recalls = [figure for figure in self.figures if figure.key.startswith(RECALL)]
        apart = [figure for figure in recalls if figure.key != RECALL] or recalls
        drawn = [
            (figure.title.capitalize(), Markup(forest_plot(self._drawn, key=figure.key, title=figure.title)))
            for figure in apart
        ]
        return [(title, drawing) for title, drawing in drawn if drawing]

    def losses(self) -> Markup:
        """Returns the drawing of the training losses, or nothing without a history."""
        return Markup(loss_plot(self._drawn))

    def seconds(self) -> Markup:
        """Returns the drawing of the seconds per image, or nothing if they are not known."""
        return Markup(seconds_plot(self._drawn, stages=self.stages))

    def costs(self) -> list[CostRow]:
        """Returns the rows of the cost table."""
        return cost_rows(self._comparison)

    def sweep_drawings(self, sweep: Sweep) -> list[tuple[str, Markup]]:
        """Returns the drawings of a sweep: the objective by settings, and what Optuna found in which order."""
        study = sweep.study
        drawn = [("Objective by settings", settings_plot(sweep))]
        if study is not None:
            drawn += [("Trials in their order", history_plot(study)), ("Importance", importance_plot(study))]
        return [(title, Markup(drawing)) for title, drawing in drawn if drawing]

    def strip(self, pair: RunPair, test: PairedTest) -> Markup:
        """Returns the drawing of one difference; all have the same scale."""
        differences = [one.paired.difference for two in self._comparison.pairs for one in two.tests]
        numbers = [abs(end) for score in differences for end in _ends(score)]
        reach = max([*numbers, 0.01])
        label = f"{pair.other} against {pair.first}, {test.images}"
        return Markup(difference_strip(test.paired.difference, reach=reach, label=label))

    def settings(self) -> Sequence[SettingDifference]:
        """Returns the differing settings that every run has."""
        return [one for one in self._comparison.differences if one.known_to_all]

    def other_settings(self) -> Sequence[SettingDifference]:
        """Returns the settings that some runs do not have."""
        return [one for one in self._comparison.differences if not one.known_to_all]


def _ends(score: Score) -> list[float]:
    return [number for number in (score.value, score.low, score.high) if number is not None]
