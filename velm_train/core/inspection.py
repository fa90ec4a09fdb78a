"""The records of new pictures: what the whole system says about each, and what it took."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from velm_train.core.plain import read_record
from velm_train.core.records import BoxXYXY, GatePolicy, RegionSource, SizeHW

Verdict = Literal["good", "no defect", "defect", "unknown type", "unsure", "unreadable"]
"""One word about a picture: `good`, the gate let it pass and the model never saw it; `no defect`, the gate flagged it
and the model takes that for a false alarm; `defect`, flagged and named; `unknown type`, flagged, and no name of the
list fits; `unsure`, flagged, and the likeliest answer is less sure than asked for; `unreadable`, nothing is known."""

GATE_STAGES = ("read", "detect", "decide")
"""Stages that every picture goes through, by their names in `Inspection.seconds`."""

MODEL_STAGES = ("encode", "answer")
"""Stages that only flagged pictures go through."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectedRegion:
    """One place of a flagged picture.

    Attributes:
        box_xyxy: original pixels, half-open.
        crop_xyxy: the part with its context that the model was shown, if the question shows a crop.
        contour: outline points (x, y) in original pixels; empty for a whole picture.
        area_px: original pixels.
        peak_score: highest anomaly-map value inside, raw detector units.
    """

    box_xyxy: BoxXYXY
    crop_xyxy: BoxXYXY
    contour: tuple[tuple[int, int], ...]
    area_px: int
    peak_score: float
    source: RegionSource


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedOption:
    """One option of the closed list.

    Attributes:
        answer: as the model was shown it.
        defect_type: what it stands for; "good" for "no defect", None for "none of these".
        log_likelihood: nats, mean over option orders, as the model gives it.
        probability: share among the options, at the run's temperature if it has calibrated its answers.
        in_set: whether it belongs to the set that holds the true type at the coverage the run promises; None where
            nothing is promised.
    """

    answer: str
    defect_type: str | None
    log_likelihood: float
    probability: float
    in_set: bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """The whole system's word about one new picture.

    Attributes:
        path: of the file as it was given; "" for a picture that came as pixels.
        sha256: of the file's bytes; "" if it could not be read. For pixels, of the PNG file made of them.
        category: what the picture shows.
        verdict: see `Verdict`.
        error: why nothing is known, with the path; "" unless unreadable.
        size_hw: pixels, upright; None if unreadable, as are the four fields after it.
        anomaly_score: raw detector units.
        p_value: how unusual the picture is among the normal ones, in (0, 1].
        image_threshold: pictures with a higher score are flagged; raw units.
        flagged: whether the model was asked.
        gate_policy: "detector", or "off" where every picture is flagged.
        pred_defect_type: folder name of the type; "good" if the gate or the model says so; None if no type is named.
        options: likeliest first; empty if the model was not asked.
        regions: strongest first; empty if not flagged.
        role_in_run: the role that the same file had in the run; "" if the run did not know it. Detector or model have
            seen files of another role than "test", so that the p-value means nothing for them.
        seconds: stage -> seconds spent on the picture; see GATE_STAGES and MODEL_STAGES.
    """

    path: str
    sha256: str
    category: str
    verdict: Verdict
    error: str
    size_hw: SizeHW | None
    anomaly_score: float | None
    p_value: float | None
    image_threshold: float | None
    flagged: bool | None
    gate_policy: GatePolicy
    pred_defect_type: str | None
    options: tuple[NamedOption, ...]
    regions: tuple[InspectedRegion, ...]
    role_in_run: str
    seconds: dict[str, float]

    @property
    def name(self) -> str:
        """What is wrong in readable words: the likeliest option's, or "good"; "" if unreadable."""
        if self.options:
            return self.options[0].answer
        return "" if self.verdict == "unreadable" else "good"

    @property
    def probability(self) -> float | None:
        """Of the likeliest option; None if the model was not asked."""
        return self.options[0].probability if self.options else None

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dictionary that `from_json` reads back to an equal record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, row: object) -> "Inspection":
        """Reads a row written by `to_json`.

        Raises:
            DataError: if a field is missing or unknown.
        """
        return read_record(cls, row)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedTime:
    """What one picture takes on average: t_gate + P(pass) * t_model.

    Attributes:
        gate_seconds: mean over all pictures, of reading, detector and decision.
        model_seconds: mean over flagged pictures, of vision towers and answer; None if none was flagged.
        pass_share: share of the pictures that the gate passes on to the model.
        num_pictures: that were measured.
        num_flagged: of these.
    """

    gate_seconds: float
    model_seconds: float | None
    pass_share: float
    num_pictures: int
    num_flagged: int

    @property
    def seconds(self) -> float:
        """The expected time of one picture."""
        return self.gate_seconds + self.pass_share * (self.model_seconds or 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryDrift:
    """Whether new pictures of one category still score like the normal ones that set its threshold.

    Attributes:
        statistic: largest gap between the two distributions of scores, 0 to 1 (two-sample Kolmogorov-Smirnov).
        p_value: of that gap if nothing had changed.
        least_p_value: what the largest possible gap would give with so many scores.
        num_new: new pictures that were scored; equal files are one, and those that the run learned from are none.
        num_calibration: normal parts that set the threshold.
        level: p-value at or below which drift is reported.
    """

    category: str
    statistic: float
    p_value: float
    least_p_value: float
    num_new: int
    num_calibration: int
    level: float
    drifted: bool

    @property
    def too_few(self) -> bool:
        """True if no scores whatever could have shown drift."""
        return self.least_p_value > self.level


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectionSummary:
    """What a set of inspected pictures comes to.

    Attributes:
        verdicts: verdict -> number of pictures, every verdict named.
        types: defect type -> number of pictures named so.
        known_to_run: role -> pictures whose file the run has used in that role.
        num_reused: rows that an earlier command had made.
        expected_time: None if no picture could be read.
        drift: one entry a category with new pictures.
        temperature: what the answers' log-likelihoods are divided by; None if they are as the model gives them.
        set_coverage: share of the true types that the sets of options are to hold; None without such sets.
        abstain_below: answers less probable than this are called "unsure".
    """

    verdicts: dict[str, int]
    types: dict[str, int]
    known_to_run: dict[str, int]
    num_reused: int
    expected_time: ExpectedTime | None
    drift: tuple[CategoryDrift, ...]
    temperature: float | None
    set_coverage: float | None
    abstain_below: float

    @property
    def num_pictures(self) -> int:
        """All of them, unreadable ones included."""
        return sum(self.verdicts.values())
