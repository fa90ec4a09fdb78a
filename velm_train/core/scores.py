"""What metrics say and reporting shows: figures with intervals, one row a system, plain enough for JSON.

list of Prediction -> metrics/ -> RowScores -> Scoreboard -> reporting/ -> results.json, report.html, terminal
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from velm_train.core.errors import DataError
from velm_train.core.plain import read_record

IntervalMethod = Literal["bootstrap", "clopper-pearson", "none"]
GroupKind = Literal["overall", "group", "category"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One figure, how sure it is, and what it rests on.

    Attributes:
        value: the figure, or None if it is not defined; never NaN.
        low: lower end of the 95 % interval, or None.
        high: upper end of the 95 % interval, or None.
        n: images the figure rests on.
        k: images that count for a plain proportion k / n, else None.
        interval: how the interval was made.
        note: why the value or the interval is missing, or what was left out; "" if there is nothing to say.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    k: int | None
    interval: IntervalMethod
    note: str

    def __post_init__(self) -> None:
        """Refuses what a reader could mistake for a figure."""
        numbers = (self.value, self.low, self.high)
        if any(number is not None and not math.isfinite(number) for number in numbers):
            raise DataError(f"score {numbers} holds a value that is not finite; give None and a note instead")
        if self.value is None and not self.note:
            raise DataError("score without a value needs a note that says why")

    @classmethod
    def undefined(cls, note: str, *, n: int = 0) -> "Score":
        """Returns a score without a value, and the reason."""
        return cls(value=None, low=None, high=None, n=n, k=None, interval="none", note=note)


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionScores:
    """The gate alone: ranking, and both kinds of error at the frozen threshold."""

    image_auroc: Score
    miss_rate: Score
    false_alarm_rate: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalisationScores:
    """How well anomaly maps find the place of a defect, whatever the threshold.

    Attributes:
        pixel_auroc: chance that a defect pixel outranks another one, ties half; mean over categories.
        aupro: area under the per-region overlap up to a false-positive rate of 0.3, divided by 0.3; same mean.
    """

    pixel_auroc: Score
    aupro: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationScores:
    """The named type, on the defects that the gate flagged."""

    given_detected_balanced_recall: Score
    given_detected_macro_f1: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemScores:
    """The whole system: gate misses and unparsed answers are errors."""

    end_to_end_balanced_recall: Score
    normal_recall: Score
    velm_accuracy: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """Where parts end up, as plain shares of images; the four shares of defects add up to 1.

    Attributes:
        defects_named_right: flagged and given the true type.
        defects_named_wrong: flagged and given another type.
        defects_unnamed: flagged, but answered "none of these" or nothing that can be read.
        defects_passed_as_good: missed by the gate, or answered "no defect".
        normals_stopped: normal images that do not end as "good".
    """

    defects_named_right: Score
    defects_named_wrong: Score
    defects_unnamed: Score
    defects_passed_as_good: Score
    normals_stopped: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskPoint:
    """Error fraction among the answers at least as confident as `confidence`, and the fraction they are."""

    coverage: float
    risk: float
    confidence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationScores:
    """How far the confidence of an answer can be trusted, over flagged images."""

    expected_calibration_error: Score
    aurc: Score
    unparsed_fraction: Score
    none_of_these_fraction: Score
    risk_coverage: tuple[RiskPoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CollapseCheck:
    """Whether the answers fell onto few types although the truth did not.

    Attributes:
        alarm: True, False, or None if there are too few flagged defects to tell.
        gt_entropy_fraction: entropy of the true types over its maximum, 0..1.
        pred_entropy_fraction: entropy of the answers over the same maximum, at most 1.
        top_answer: the most frequent answer.
        top_share: its share of the answers, 0..1.
        note: what raised the alarm, or why there is no verdict.
    """

    alarm: bool | None
    gt_entropy_fraction: float | None
    pred_entropy_fraction: float | None
    top_answer: str
    top_share: float | None
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeRecall:
    """One defect type's end-to-end recall, and how many of its images the gate missed."""

    category: str
    defect_type: str
    recall: Score
    num_missed_by_gate: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Counts for one category; rows are true types, columns are answers, both labelled.

    The last columns hold "good" (let pass by the gate, or answered "no defect"), "none of these" and "unparsed".
    """

    category: str
    group: str
    gt_labels: tuple[str, ...]
    pred_labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupScores:
    """Every figure over one set of images: all, one group of categories, or one category."""

    name: str
    kind: GroupKind
    num_images: int
    num_defects: int
    num_normals: int
    num_flagged: int
    detection: DetectionScores
    classification: ClassificationScores
    system: SystemScores
    outcomes: Outcomes
    calibration: CalibrationScores
    collapse: CollapseCheck
    type_recalls: tuple[TypeRecall, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSeconds:
    """Seconds per image of one stage over the n images that went through it, and their sum."""

    stage: str
    mean: float
    median: float
    total: float
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RowScores:
    """One system's scores.

    Attributes:
        overall: over all images.
        groups: "seen", "unseen" and whatever other group occurs.
        categories: one entry a category.
        confusions: one table a category.
        seconds: by stage, then "all stages".
        gate_policies: the policies that made the rows; anything but ("detector",) must be shown.
    """

    overall: GroupScores
    groups: tuple[GroupScores, ...]
    categories: tuple[GroupScores, ...]
    confusions: tuple[Confusion, ...]
    seconds: tuple[StageSeconds, ...]
    gate_policies: tuple[str, ...]

    def group(self, name: str) -> GroupScores | None:
        """Returns the scores of the group of that name, or None if it has no images."""
        return next((group for group in self.groups if group.name == name), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """How another system differs from the first on the images both have seen.

    Attributes:
        difference: other minus first, end-to-end balanced recall, with a paired bootstrap interval.
        num_only_first_right: images only the first system ends right on.
        num_only_other_right: images only the other system ends right on.
        mcnemar_p_value: exact two-sided McNemar test on these two counts.
    """

    difference: Score
    num_only_first_right: int
    num_only_other_right: int
    mcnemar_p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreboardRow:
    """One named system.

    Attributes:
        trivial: True for a system that knows the answers' distribution and never looks at an image.
        subset_note: why the row rests on fewer images than the first row; "" if it does not.
        versus_first: comparison with the first row; None for the first row itself.
    """

    name: str
    scores: RowScores
    trivial: bool
    subset_note: str
    versus_first: PairedDifference | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scoreboard:
    """All systems on the same images, the run itself first.

    Attributes:
        label_sets: category -> the fixed list of defect types that was scored.
        num_images: images of the first row.
    """

    rows: tuple[ScoreboardRow, ...]
    label_sets: dict[str, tuple[str, ...]]
    num_images: int
    num_bootstrap: int
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dictionary that `from_json` reads back to an equal record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "Scoreboard":
        """Reads what `to_json` gave.

        Raises:
            DataError: if a field is missing, unknown or of another kind.
        """
        return read_record(cls, body)
