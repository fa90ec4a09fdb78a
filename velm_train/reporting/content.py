"""What the HTML report is made of: plain data that the pipeline fills in and the template reads."""

from dataclasses import dataclass
from typing import Literal

from velm_train.core.errors import DataError
from velm_train.core.scores import Scoreboard
from velm_train.reporting.figures import Picture
from velm_train.reporting.manifest import Manifest

Outcome = Literal["named right", "wrong name", "missed", "false alarm", "no name", "good passed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GateCard:
    """How one category's gate was set, and the scores it was set and tried on.

    Attributes:
        num_calibration: normal images that set the threshold.
        alpha: false-alarm rate asked for, 0..1.
        image_threshold: raw detector units.
        guarantee: one sentence saying which guarantee holds.
        calibration_scores: raw units, of the images that set the threshold.
        normal_scores: raw units, of normal test images.
        defect_scores: raw units, of defective test images.
    """

    category: str
    num_calibration: int
    alpha: float
    image_threshold: float
    guarantee: str
    calibration_scores: tuple[float, ...]
    normal_scores: tuple[float, ...]
    defect_scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionShare:
    """One option's probability, 0..1."""

    name: str
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One image with what the system made of it.

    Attributes:
        gt_name: readable true type.
        pred_name: readable answer, or what happened instead.
        options: probabilities of the closed list, likeliest first; empty if the model was not asked.
        note: anything else worth saying, or "".
    """

    outcome: Outcome
    image_id: str
    category: str
    group: str
    gt_name: str
    pred_name: str
    anomaly_score: float
    image_threshold: float
    options: tuple[OptionShare, ...]
    pictures: tuple[Picture, ...]
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """Under what terms a thing that the run used may be used."""

    item: str
    licence: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportContent:
    """Everything on the page.

    Attributes:
        title: name of the run.
        subtitle: data, detector and model in one line.
        notices: sentences that a reader must not miss, such as an oracle gate.
        scoreboard: its first row is the run itself.
        display_names: category -> defect type -> readable name; types without one keep their folder name.
        gates: one card a category.
        examples: in the order to show.
        config_yaml: the resolved configuration.
    """

    title: str
    subtitle: str
    notices: tuple[str, ...]
    scoreboard: Scoreboard
    display_names: dict[str, dict[str, str]]
    gates: tuple[GateCard, ...]
    examples: tuple[Example, ...]
    config_yaml: str
    manifest: Manifest
    licences: tuple[Licence, ...]

    def __post_init__(self) -> None:
        """Checks that there is a run to report on."""
        if not self.scoreboard.rows:
            raise DataError("report without a scoreboard row; score at least the run itself")
