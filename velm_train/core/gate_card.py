"""What gating says about a calibrated gate and reporting shows: what is promised, beside what was found.

CalibratedGate + scores of test images -> gating/ -> AlphaRow, CategoryGate -> reporting/ -> gate_card.json and .html
"""

from dataclasses import dataclass
from typing import Literal

from velm_train.core.records import NORMAL_DEFECT_TYPE, CalibrationKind
from velm_train.core.scores import LocalisationScores, Score

Unit = Literal["images", "parts"]
"""What is counted: parts where one is seen several times, else images."""

Verdict = Literal["consistent", "more than promised", "fewer than promised", "no guarantee", "not tested"]
Use = Literal["calibration", "test"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """Whether a false-alarm rate can be held with the calibration parts at hand.

    Attributes:
        num_needed: parts from which alpha is reached on average.
        num_needed_95: parts from which a threshold exists whose rate is at most alpha with 95 % confidence.
        pac_upper_95: of the threshold at alpha with the parts at hand; None if alpha is not reached.
    """

    alpha: float
    reachable: bool
    num_needed: int
    num_needed_95: int
    pac_upper_95: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """Result of comparing new scores with the calibration scores.

    Attributes:
        statistic: largest gap between the two empirical distribution functions, in [0, 1].
        p_value: of the two-sided two-sample Kolmogorov-Smirnov test.
        num_new: how many new scores were compared.
        level: the p-value at or below which drift is reported.
        drifted: p_value <= level.
    """

    statistic: float
    p_value: float
    num_new: int
    level: float
    drifted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AlphaRow:
    """A false-alarm rate asked for: what is promised, and what was found on test images.

    Attributes:
        reachable: whether alpha can be held with the calibration parts; if not, nothing below is known.
        num_needed: calibration parts from which it can.
        threshold: raw detector units; None for a row over several categories, or if alpha is out of reach.
        promised_rate: k / (n + 1) <= alpha, on average; None if out of reach or no guarantee holds.
        pac_upper_95: with 95 % confidence this threshold's rate is below this; None as above, or over categories.
        worst_case: what needs nothing but exchangeability; None as above.
        expected_low: fewest false alarms that are not surprising (2.5 %), the calibration being a sample as well.
        expected_high: most of them.
        false_alarms: share of normal test images flagged, exact interval.
        misses: share of defective test images that are not, exact interval.
        verdict: whether the number of false alarms lies between expected_low and expected_high.
        note: what was left out, or why there is nothing; "" if there is nothing to say.
    """

    alpha: float
    reachable: bool
    num_needed: int
    threshold: float | None
    promised_rate: float | None
    pac_upper_95: float | None
    worst_case: float | None
    expected_low: int | None
    expected_high: int | None
    false_alarms: Score
    misses: Score
    verdict: Verdict
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedImage:
    """One image with its score.

    Attributes:
        use: whether it set the threshold or was tried against it.
        p_value: conformal p-value; None for calibration images, which cannot be compared with themselves.
    """

    image_id: str
    group_id: str
    defect_type: str
    use: Use
    anomaly_score: float
    p_value: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SuspectImage:
    """A calibration image that looks like no normal one.

    Attributes:
        p_value: chance that a normal image scores as high, by the tail fitted to the others.
    """

    image_id: str
    image_path: str
    anomaly_score: float
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryGate:
    """The gate of one category.

    Attributes:
        num_calibration: normal parts that set the threshold.
        num_calibration_images: images that show them.
        image_threshold: at the alpha of the run, raw detector units.
        guarantee: in words, at the alpha of the run.
        rows: at the alpha of the run and the further ones, strictest first.
        localisation: of the anomaly maps, over test images whose outline is known.
        drift: of normal test images; None if there are none.
        suspects: calibration images that look like outliers, most anomalous first.
        images: calibration and test images, by image_id.
        seconds_per_image: wall seconds for reading and scoring one image.
    """

    category: str
    unit: Unit
    calibration: CalibrationKind
    num_calibration: int
    num_calibration_images: int
    image_threshold: float
    pixel_threshold: float
    guarantee: str
    rows: tuple[AlphaRow, ...]
    reach: tuple[Reach, ...]
    image_auroc: Score
    localisation: LocalisationScores
    drift: DriftReport | None
    suspects: tuple[SuspectImage, ...]
    images: tuple[JudgedImage, ...]
    detector_hash: str
    seconds_per_image: float

    def row(self, alpha: float) -> AlphaRow:
        """Returns the row at one of the card's false-alarm rates."""
        return next(row for row in self.rows if row.alpha == alpha)

    def scores(self, use: Use, *, defective: bool) -> list[float]:
        """Returns the scores of the normal or the defective images of one use."""
        return [image.anomaly_score for image in self._chosen(use, defective=defective)]

    def highest(self, use: Use, *, num_images: int) -> list[JudgedImage]:
        """Returns the normal images of one use that look most like defects."""
        chosen = self._chosen(use, defective=False)
        return sorted(chosen, key=lambda image: -image.anomaly_score)[:num_images]

    def lowest_defects(self, *, num_images: int) -> list[JudgedImage]:
        """Returns the defective test images that look most like normals."""
        chosen = self._chosen("test", defective=True)
        return sorted(chosen, key=lambda image: image.anomaly_score)[:num_images]

    def _chosen(self, use: Use, *, defective: bool) -> list[JudgedImage]:
        of_use = [image for image in self.images if image.use == use]
        return [image for image in of_use if (image.defect_type != NORMAL_DEFECT_TYPE) == defective]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateReport:
    """Everything in gate_card.json.

    Attributes:
        title: name of the run.
        subtitle: data, split and detector in one line.
        alpha: the false-alarm rate of the run.
        guaranteed: False for transductive detectors.
        notices: sentences that a reader must not miss.
        settings: of detector and gate, as text.
        config_hash: of every setting but folders and task.
        rows: over all categories.
        image_auroc: mean over categories.
        localisation: means over categories.
    """

    title: str
    subtitle: str
    alpha: float
    guaranteed: bool
    notices: tuple[str, ...]
    settings: dict[str, str]
    config_hash: str
    rows: tuple[AlphaRow, ...]
    image_auroc: Score
    localisation: LocalisationScores
    categories: tuple[CategoryGate, ...]
