"""What report.html says beyond scoreboard, answers and language check; results.json holds it under "page".

gate card, predictions, look-twice adapter -> GateFacts, ErrorSources, SecondLook -> PageFacts -> report.html
"""

from dataclasses import dataclass
from typing import Literal

from velm_train.core.gate_card import AlphaRow, CategoryGate, Unit
from velm_train.core.records import BoxXYXY, CalibrationKind
from velm_train.core.scores import LocalisationScores, Score

Outcome = Literal["named right", "wrong name", "missed", "no name", "false alarm", "good passed"]
"""Where one image ended: `missed` by the gate or by a "no defect" answer, `false alarm` under any name or none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateFacts:
    """One category's gate: what was promised, what was found, and the scores behind both.

    Attributes:
        unit: what `num_calibration` counts.
        alpha: false-alarm rate asked for, 0..1.
        image_threshold: raw detector units.
        guarantee: one sentence saying which guarantee holds.
        row: at alpha.
        calibration_scores: raw units, of the images that set the threshold.
        normal_scores: raw units, of normal test images.
        defect_scores: raw units, of defective test images.
    """

    category: str
    unit: Unit
    calibration: CalibrationKind
    num_calibration: int
    alpha: float
    image_threshold: float
    guarantee: str
    row: AlphaRow
    image_auroc: Score
    localisation: LocalisationScores
    calibration_scores: tuple[float, ...]
    normal_scores: tuple[float, ...]
    defect_scores: tuple[float, ...]

    @classmethod
    def of(cls, gate: CategoryGate, *, alpha: float) -> "GateFacts":
        """Returns the part of a category's gate card that the report shows, at the alpha of the run."""
        return cls(
            category=gate.category,
            unit=gate.unit,
            calibration=gate.calibration,
            num_calibration=gate.num_calibration,
            alpha=alpha,
            image_threshold=gate.image_threshold,
            guarantee=gate.guarantee,
            row=gate.row(alpha),
            image_auroc=gate.image_auroc,
            localisation=gate.localisation,
            calibration_scores=tuple(gate.scores("calibration", defective=False)),
            normal_scores=tuple(gate.scores("test", defective=False)),
            defect_scores=tuple(gate.scores("test", defective=True)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorSources:
    """Where the images of one category end up; the first six add up to the defects, the other four to the normals.

    Attributes:
        right: defects that end with their true type, or as "none of these" if nobody was taught it.
        gate_miss: defects that the gate let pass.
        no_defect_answered: flagged defects that the model took for a false alarm.
        wrong_type: flagged defects given another type.
        none_of_these: flagged defects of a taught type that no name was found to fit.
        unparsed: flagged defects whose answer names nothing.
        passed: normals that the gate let pass.
        cleared: flagged normals that the model answered "no defect" to.
        false_alarm_named: flagged normals given a type.
        false_alarm_unnamed: flagged normals without a name.
    """

    category: str
    right: int
    gate_miss: int
    no_defect_answered: int
    wrong_type: int
    none_of_these: int
    unparsed: int
    passed: int
    cleared: int
    false_alarm_named: int
    false_alarm_unnamed: int

    @property
    def num_defects(self) -> int:
        """Defective images of the category."""
        errors = self.gate_miss + self.no_defect_answered + self.wrong_type + self.none_of_these + self.unparsed
        return self.right + errors

    @property
    def num_normals(self) -> int:
        """Normal images of the category."""
        return self.passed + self.cleared + self.false_alarm_named + self.false_alarm_unnamed


@dataclass(frozen=True, kw_only=True, slots=True)
class LookCell:
    """The cell that one second-look token draws most from.

    Attributes:
        box_xyxy: original pixels, half-open.
        share: of the token's weight, 0..1.
    """

    box_xyxy: BoxXYXY
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SecondLook:
    """Where the look-twice adapter looked in one view.

    Attributes:
        view_box_xyxy: the part of the image that the view shows, original pixels.
        cells: one a token, the global one left out, in row-major order of the bins.
    """

    image_id: str
    view_box_xyxy: BoxXYXY
    cells: tuple[LookCell, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """Under what terms a thing that the run used may be used."""

    item: str
    licence: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFacts:
    """What the page says in words and figures of its own.

    Attributes:
        title: name of the run.
        subtitle: data, detector and model in one line.
        notices: sentences that a reader must not miss, such as an oracle gate.
        display_names: category -> defect type -> readable name; types without one keep their folder name.
        gates: one a category.
        errors: one a category.
        shown: image_ids of the gallery, in its order.
        second_looks: of those shown whose cells are known.
        second_look_note: why no cells are known; "" if they are.
        abstain_below: least calibrated probability of an answer that is acted on; 0 if every answer is.
    """

    title: str
    subtitle: str
    notices: tuple[str, ...]
    display_names: dict[str, dict[str, str]]
    gates: tuple[GateFacts, ...]
    errors: tuple[ErrorSources, ...]
    shown: tuple[str, ...]
    second_looks: tuple[SecondLook, ...]
    second_look_note: str
    abstain_below: float
    licences: tuple[Licence, ...]
