"""An answer report goes in; what the page's section on trust asks about it comes out."""

from markupsafe import Markup

from velm_train.core.answer_scores import AnswerReport
from velm_train.reporting.answers_words import answer_lines, image_blind_sentence
from velm_train.reporting.plots import reliability_plot


class AnswersView:
    """What the template asks about answers beyond their plain fields."""

    def __init__(self, report: AnswerReport) -> None:
        """Remembers the report."""
        self._report = report

    def sentences(self) -> list[str]:
        """Returns what may be done with the answers, one sentence a subject."""
        return answer_lines(self._report)

    def reliability(self) -> Markup:
        """Returns the reliability drawing, or nothing without answers."""
        before, after = self._report.before.reliability, self._report.after
        if not before:
            return Markup("")
        return Markup(
            reliability_plot(before, () if after is None else after.reliability, title="Confidence against being right")
        )

    def alarms(self) -> list[str]:
        """Returns the sentence about answers that do not depend on the picture, if it is so."""
        blind = self._report.image_blind
        return [image_blind_sentence(self._report)] if blind is not None and blind.alarm else []
