"""Report content goes in; one self-contained HTML page comes out, which reads whole without its script."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from velm_train.core.artifacts import write_atomic
from velm_train.core.language import LanguageRow
from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.core.report_facts import GateFacts, Outcome
from velm_train.core.scores import Confusion, GroupScores, Score, ScoreboardRow
from velm_train.reporting import words
from velm_train.reporting.answers_view import AnswersView
from velm_train.reporting.content import ReportContent
from velm_train.reporting.error_view import ErrorsView, outcome_totals
from velm_train.reporting.language_words import check_name
from velm_train.reporting.pages import read_script, render_page
from velm_train.reporting.plots import interval_strip, risk_coverage_plot, score_histogram
from velm_train.reporting.verdict import verdict_sentence

MAX_OPEN_CONFUSIONS = 4
"""More categories than this are folded away."""

_GROUP_TITLES = {
    "overall": "All categories",
    "seen": "Categories seen in tuning",
    "unseen": "Categories never seen in tuning",
}
_FIXED_NAMES = {NORMAL_DEFECT_TYPE: "good"}


@dataclass(slots=True)
class Footnotes:
    """Numbers the notes of one table; equal notes share a number."""

    notes: list[str] = field(default_factory=list)

    def mark(self, note: str) -> str:
        """Returns the number of a note, or "" for an empty one."""
        if not note:
            return ""
        if note not in self.notes:
            self.notes.append(note)
        return str(self.notes.index(note) + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class BarSegment:
    """One part of the bar that stands for 100 defective parts."""

    kind: Literal["right", "wrong", "missed", "unnamed"]
    label: str
    number: int


def write_report(content: ReportContent, path: Path) -> None:
    """Writes the page atomically.

    Raises:
        ResourceError: if the file cannot be written.
    """
    write_atomic(path, render_report(content))


def render_report(content: ReportContent) -> str:
    """Returns the page as HTML text."""
    return render_page(
        "report.html.j2",
        styles=("report.css",),
        names={
            "content": content,
            "view": ReportView(content),
            "errors": ErrorsView(content.page.errors),
            "words": words,
            "footnotes": Footnotes,
            "script": read_script("report.js"),
        },
    )


class ReportView:
    """What the template asks about the content beyond its plain fields."""

    def __init__(self, content: ReportContent) -> None:
        """Remembers the content."""
        self._content = content
        self._rows = content.scoreboard.rows

    @property
    def verdict(self) -> str:
        """The run in one sentence."""
        return verdict_sentence(self._content.scoreboard)

    @property
    def calibrated(self) -> bool:
        """True if probabilities are those of the run's calibration."""
        return self._content.answers is not None and self._content.answers.policy is not None

    @property
    def run(self) -> ScoreboardRow:
        """The run that the page is about."""
        return self._rows[0]

    def groups(self) -> list[GroupScores]:
        """Returns everything to report apart: all images, and the groups if there are several."""
        scores = self.run.scores
        return [scores.overall, *(scores.groups if len(scores.groups) > 1 else ())]

    def title(self, group: GroupScores) -> str:
        """Returns a group's heading."""
        return _GROUP_TITLES.get(group.name, group.name)

    def group_of(self, row: ScoreboardRow, name: str) -> GroupScores | None:
        """Returns another row's scores over the same group."""
        return row.scores.overall if name == "overall" else row.scores.group(name)

    def marks(self, row: ScoreboardRow) -> list[str]:
        """Returns what must be said beside a row's name."""
        return words.row_marks(row, num_images=self._content.scoreboard.num_images)

    def segments(self, group: GroupScores) -> list[BarSegment]:
        """Returns the bar of 100 defective parts, or nothing without defective images."""
        outcomes = group.outcomes
        scores = (
            outcomes.defects_named_right,
            outcomes.defects_named_wrong,
            outcomes.defects_passed_as_good,
            outcomes.defects_unnamed,
        )
        shares = [score.value for score in scores if score.value is not None]
        if len(shares) < len(scores):
            return []
        right, wrong, missed, unnamed = words.out_of_hundred(shares)
        segments = [
            BarSegment(kind="right", label="named right", number=right),
            BarSegment(kind="wrong", label="wrong name", number=wrong),
            BarSegment(kind="missed", label="passed as good", number=missed),
            BarSegment(kind="unnamed", label="no name", number=unnamed),
        ]
        return [segment for segment in segments if segment.number > 0]

    def trivial_row(self) -> ScoreboardRow | None:
        """Returns the strongest trivial system by parts named right, or None."""
        trivial = [row for row in self._rows if row.trivial and row.scores.overall.outcomes.defects_named_right.k]
        return max(trivial, key=_named_right_share) if trivial else None

    def alarms(self) -> list[str]:
        """Returns sentences about the run's answers if they ignore the picture or collapsed.

        Other rows may: an image-blind one has to.
        """
        answers, collapse = self.answers(), self.run.scores.overall.collapse
        ignored = [] if answers is None else answers.alarms()
        collapsed = f"{self.run.name}: answers collapsed onto few types ({collapse.note})."
        return ignored + ([collapsed] if collapse.alarm else [])

    def answers(self) -> AnswersView | None:
        """Returns what there is to say about trust in answers, or None if nothing is known."""
        report = self._content.answers
        return None if report is None else AnswersView(report)

    def category(self, name: str) -> GroupScores | None:
        """Returns the run's scores of one category, or None if it has no test images."""
        return next((category for category in self.run.scores.categories if category.name == name), None)

    def group_name(self, category: str) -> str:
        """Returns the group that a category belongs to."""
        return next(c.group for c in self.run.scores.confusions if c.category == category)

    def confusions(self, group: GroupScores) -> list[Confusion]:
        """Returns the confusion tables of a group's categories."""
        return [c for c in self.run.scores.confusions if group.name in ("overall", c.group)]

    def confusion_groups(self) -> list[GroupScores]:
        """Returns the groups to show confusion tables for, each category once."""
        groups = self.groups()
        return groups if len(groups) == 1 else groups[1:]

    def folded(self, group: GroupScores) -> bool:
        """True if a group has too many categories to show its confusion tables open."""
        return len(self.confusions(group)) > MAX_OPEN_CONFUSIONS

    def name(self, category: str, defect_type: str) -> str:
        """Returns a type's readable name."""
        return _FIXED_NAMES.get(defect_type) or words.display_name(
            self._content.page.display_names, category, defect_type
        )

    def check_name(self, row: LanguageRow) -> str:
        """Returns what a change of wording is called."""
        return check_name(row)

    def expected(self, gate: GateFacts) -> str:
        """Returns how many false alarms would be no surprise, in words."""
        low, high = gate.row.expected_low, gate.row.expected_high
        if low is None or high is None:
            return words.ABSENT
        return str(low) if low == high else f"{low} to {high}"

    def gallery_categories(self) -> list[str]:
        """Returns the categories that the gallery shows."""
        return sorted({example.category for example in self._content.examples})

    def gallery_counts(self) -> list[tuple[Outcome, int, int]]:
        """Returns each outcome with the number of images shown and of all, in the order of the gallery."""
        shown = Counter(example.outcome for example in self._content.examples)
        totals = outcome_totals(self._content.page.errors)
        return [(outcome, number, totals[outcome]) for outcome, number in shown.items()]

    def histogram(self, gate: GateFacts) -> Markup:
        """Returns one gate's score histogram."""
        return Markup(
            score_histogram(
                title=f"Anomaly scores of {gate.category}",
                threshold=gate.image_threshold,
                calibration=gate.calibration_scores,
                normals=gate.normal_scores,
                defects=gate.defect_scores,
            )
        )

    def risk_coverage(self, group: GroupScores) -> Markup:
        """Returns a group's risk-coverage curve, or nothing if there are too few answers."""
        points = group.calibration.risk_coverage
        title = f"Errors among the answers kept: {self.title(group)}"
        return Markup(risk_coverage_plot(points, title=title) if points else "")

    def strip(self, score: Score, row: ScoreboardRow, group: GroupScores) -> Markup:
        """Returns the drawing of an end-to-end figure with the run's own as reference."""
        reference = group.system.end_to_end_balanced_recall.value
        return Markup(interval_strip(score, label=f"{row.name}, end to end", reference=reference))


def _named_right_share(row: ScoreboardRow) -> float:
    return row.scores.overall.outcomes.defects_named_right.value or 0.0
