"""How far answers can be trusted: what calibration rows decide, and what the test rows then show.

calibration rows -> AnswerPolicy; AnswerPolicy + test rows -> AnswerReport -> results.json, report.html, terminal
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from velm_train.core.errors import DataError
from velm_train.core.plain import read_record
from velm_train.core.scores import Score

SetMethod = Literal["lac", "aps", "raps"]
"""Which conformal score makes the type sets; see `metrics.conformal_sets`."""

ANSWER_POLICY_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: log-likelihoods are divided by it; above 1 makes answers less sure, and 1 keeps their confidence.
        num_rows: rows it was fitted on.
        nll_before: mean negative log-probability of the right answer without it, nats; None if none was fitted.
        nll_after: the same with it.
        note: why the value is not the best one; "" if it is.
    """

    value: float
    num_rows: int
    nll_before: float | None
    nll_after: float | None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetGroup:
    """Categories that share one threshold, and the calibration rows it rests on.

    Attributes:
        threshold: an option is in the set if its conformal score does not exceed this.
    """

    categories: tuple[str, ...]
    threshold: float
    num_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SetPolicy:
    """How type sets are made.

    Attributes:
        coverage: share of the true types that the sets are to hold, 0..1.
        groups: the promise holds on average over the rows of each group.
        pooled_threshold: from all rows; for categories without calibration rows, where nothing is promised.
        note: which categories are pooled.
    """

    method: SetMethod
    coverage: float
    groups: tuple[SetGroup, ...]
    pooled_threshold: float
    note: str

    def threshold_of(self, category: str) -> float:
        """Returns the threshold of a category, the pooled one if it has no group."""
        return next((group.threshold for group in self.groups if category in group.categories), self.pooled_threshold)

    @property
    def promised(self) -> frozenset[str]:
        """Categories that the promise covers."""
        return frozenset(name for group in self.groups for name in group.categories)


@dataclass(frozen=True, kw_only=True, slots=True)
class SortPolicy:
    """Which answers are acted on without a person, so that few of them are wrong.

    Attributes:
        max_error: largest error share among the answers acted on, 0..1.
        confidence: chance, over calibration rows, that the bound holds, 0..1.
        min_log_odds: an answer is acted on if the log-odds of its uncalibrated probability exceed this, nats; None if
            no threshold is certified.
        all_kept: True if every named answer is acted on; `min_log_odds` is then None and not read.
        num_answers: calibration answers that name something.
        num_kept: of these, above the threshold.
        num_errors: of those, wrong.
        note: why nothing is certified, with the number of rows that would do; "" if something is.
    """

    max_error: float
    confidence: float
    min_log_odds: float | None
    all_kept: bool
    num_answers: int
    num_kept: int
    num_errors: int
    note: str

    @property
    def certified(self) -> bool:
        """True if there is a threshold for which the bound holds."""
        return self.all_kept or self.min_log_odds is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class CostMatrix:
    """What outcomes cost, in any one unit; right answers cost nothing.

    Attributes:
        missed_defect: a defective part passes as good, at the gate or by the answer.
        false_alarm: a good part is given a defect type.
        wrong_type: a defective part is given another type.
        human_look: a person looks at a part and decides rightly.
    """

    missed_defect: float
    false_alarm: float
    wrong_type: float
    human_look: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """From which confidence on an answer is cheaper than a person's look.

    Attributes:
        defect_share: share of defective parts on the line, 0..1, that weighs both kinds of parts.
        min_confidence: an answer is acted on if its calibrated probability is at least this; None if a person looks
            at every flagged part.
        expected_cost: a part, on the calibration rows; too low, for the threshold was chosen on them.
        num_defects: defective calibration images, those the gate missed included.
        num_false_alarms: flagged good calibration images.
        note: what the calibration rows could not say.
    """

    costs: CostMatrix
    defect_share: float
    min_confidence: float | None
    expected_cost: float
    num_defects: int
    num_false_alarms: int
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerPolicy:
    """Everything that calibration rows decide about later answers; no test row has a part in it.

    Attributes:
        sets: None if the rows are too few, as `sets_note` says.
        operating_point: None if there is no defective calibration image, as `operating_note` says.
        categories: those whose defects calibration has seen.
        num_rows: flagged calibration images with an answer.
        num_parts: physical parts among the defective ones; promises rest on one image of each.
    """

    temperature: Temperature
    sets: SetPolicy | None
    sets_note: str
    sorting: SortPolicy
    operating_point: OperatingPoint | None
    operating_note: str
    categories: tuple[str, ...]
    num_rows: int
    num_parts: int

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dictionary that `from_json` reads back to an equal record."""
        return {"schema_version": ANSWER_POLICY_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "AnswerPolicy":
        """Reads what `to_json` gave.

        Raises:
            DataError: if it is of another version, or a field is missing or unknown.
        """
        version = body["schema_version"] if "schema_version" in body else None
        if version != ANSWER_POLICY_VERSION:
            raise DataError(f"answer policy: schema version {version}, expected {ANSWER_POLICY_VERSION}; run again")
        return read_record(cls, {name: body[name] for name in body if name != "schema_version"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """Answers of about one confidence: their mean confidence, and how many of them are right."""

    mean_confidence: float
    accuracy: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfidenceScores:
    """How the confidence of answers agrees with their being right, over flagged test images.

    Attributes:
        brier: mean squared distance of the options' probabilities from the truth (Brier 1950), 0..2.
        nll: mean negative log-probability of the right answer, nats.
    """

    expected_calibration_error: Score
    aurc: Score
    brier: Score
    nll: Score
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SetScores:
    """What type sets held on the test images.

    Attributes:
        coverage: flagged defects of categories and types that calibration knew, whose set holds the true type.
        mean_size: options in the sets of these images.
        single: share of these sets with one option.
        coverage_elsewhere: the same in categories without calibration rows, where nothing is promised.
        false_alarms_with_no_defect: flagged good images whose set holds "no defect"; nothing is promised.
    """

    coverage: Score
    mean_size: Score
    single: Score
    coverage_elsewhere: Score
    false_alarms_with_no_defect: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class SortScores:
    """What acting on the surest answers brought on the test images.

    Attributes:
        error: wrong answers among those acted on, flagged defects of categories and types that calibration knew.
        kept: share of these defects whose answer is acted on.
        false_alarms_given_a_type: flagged good images that are acted on as defects; nothing is promised.
    """

    error: Score
    kept: Score
    false_alarms_given_a_type: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class CostScores:
    """Expected cost a part on the test images, at the operating point and without one.

    Attributes:
        at_point: acting on answers from the operating point's confidence on.
        always_answer: acting on every answer that names something.
        always_look: a person looks at every flagged part.
        human_looks: flagged images that a person looks at, at the operating point.
    """

    at_point: Score
    always_answer: Score
    always_look: Score
    human_looks: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageBlindCheck:
    """Whether the answers are shown to depend on the picture.

    Attributes:
        alarm: True if the run is not shown to be better than the same model without a picture; None without verdict.
        gap: run minus image-blind, end-to-end balanced recall.
        note: what raised the alarm, or why there is no verdict.
    """

    alarm: bool | None
    gap: Score
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerReport:
    """How far the run's answers can be trusted.

    Attributes:
        note: why answers are not calibrated; "" if they are.
        scope: what the promises are about, in a sentence; "" without calibration.
        policy: None if answers are not calibrated; so are all scores that need one.
        before: confidence as the model gives it.
        after: the same with the temperature; None if no temperature changes it.
    """

    note: str
    scope: str
    policy: AnswerPolicy | None
    before: ConfidenceScores
    after: ConfidenceScores | None
    sets: SetScores | None
    sorting: SortScores | None
    costs: CostScores | None
    image_blind: ImageBlindCheck | None
