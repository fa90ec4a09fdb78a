"""What the HTML report is made of: plain data that the pipeline fills in and the template reads."""

from dataclasses import dataclass

from velm_train.core.answer_scores import AnswerReport
from velm_train.core.errors import DataError
from velm_train.core.inspection import NamedOption
from velm_train.core.language import LanguageRow
from velm_train.core.report_facts import Outcome, PageFacts
from velm_train.core.scores import Scoreboard
from velm_train.reporting.figures import Picture
from velm_train.reporting.manifest import Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One image of the gallery with what the system made of it.

    Attributes:
        gt_name: readable true type.
        pred_name: readable answer, or what happened instead.
        options: the closed list with probabilities, likeliest first; empty if the model was not asked.
        abstained: True if the run's operating point leaves this answer to a person.
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
    options: tuple[NamedOption, ...]
    abstained: bool
    pictures: tuple[Picture, ...]
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportContent:
    """Everything on the page; all but pictures and configuration is in results.json and predictions.jsonl as well.

    Attributes:
        scoreboard: its first row is the run itself.
        examples: in the order to show.
        config_yaml: the resolved configuration.
        answers: how far the run's answers can be trusted; None for rows that somebody else made.
        language: how the answers change with the words of the questions; empty if that was not tried.
    """

    page: PageFacts
    scoreboard: Scoreboard
    examples: tuple[Example, ...]
    config_yaml: str
    manifest: Manifest
    answers: AnswerReport | None = None
    language: tuple[LanguageRow, ...] = ()

    def __post_init__(self) -> None:
        """Checks that there is a run to report on."""
        if not self.scoreboard.rows:
            raise DataError("report without a scoreboard row; score at least the run itself")
