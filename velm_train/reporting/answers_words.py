"""An answer report goes in; the sentences that terminal and page say about it come out."""

from velm_train.core.answer_scores import AnswerPolicy, AnswerReport, CostScores, SetScores, SortScores
from velm_train.core.scores import Score
from velm_train.reporting import words


def answer_lines(report: AnswerReport) -> list[str]:
    """Returns what the terminal says, one line a subject."""
    lines = [] if report.image_blind is None or not report.image_blind.alarm else [image_blind_sentence(report)]
    if report.policy is None:
        return [*lines, f"{report.note}."]
    return [
        *lines,
        temperature_sentence(report),
        set_sentence(report.policy, report.sets),
        sort_sentence(report.policy, report.sorting),
        cost_sentence(report.policy, report.costs),
    ]


def temperature_sentence(report: AnswerReport) -> str:
    """Says what the temperature is and what it does to the calibration error."""
    assert report.policy is not None
    fitted = report.policy.temperature
    before = f"calibration error {_figure(report.before.expected_calibration_error)} %"
    if report.after is None:
        return f"Answers keep their confidence: {fitted.note}; {before}."
    note = f" ({fitted.note})" if fitted.note else ""
    return (
        f"Temperature {fitted.value:.3g} from {fitted.num_rows} calibration images{note}; {before} before, "
        f"{_figure(report.after.expected_calibration_error)} % after."
    )


def set_sentence(policy: AnswerPolicy, scores: SetScores | None) -> str:
    """Says what type sets promise and hold."""
    if policy.sets is None or scores is None:
        return f"No type sets: {policy.sets_note}."
    size = "" if scores.mean_size.value is None else f", {scores.mean_size.value:.1f} options on average"
    return (
        f"Type sets ({policy.sets.method}) promise to hold the true type of {100 * policy.sets.coverage:g} % of "
        f"flagged defects, and hold {_counted(scores.coverage)} in the test{size}; {policy.sets.note}."
    )


def sort_sentence(policy: AnswerPolicy, scores: SortScores | None) -> str:
    """Says which answers can be acted on, and how many of them are wrong."""
    sorting = policy.sorting
    bound = f"at most {100 * sorting.max_error:g} % errors with confidence {100 * sorting.confidence:g} %"
    if not sorting.certified or scores is None:
        return f"No answers can be acted on with {bound}: {sorting.note}."
    how = "all answers are" if sorting.all_kept else f"answers with log-odds above {sorting.min_log_odds:.3g} are"
    return (
        f"Sorting without a person, {bound}: {how} acted on, {_counted(scores.kept)} of flagged defects of the test, "
        f"{_counted(scores.error)} of them wrong."
    )


def cost_sentence(policy: AnswerPolicy, scores: CostScores | None) -> str:
    """Says from which confidence on answers are acted on, and what that costs."""
    point = policy.operating_point
    if point is None or scores is None:
        return f"No operating point: {policy.operating_note}."
    rule = (
        "a person looks at every flagged part"
        if point.min_confidence is None
        else f"answers of at least {100 * point.min_confidence:.1f} % are acted on"
    )
    note = f" ({point.note})" if point.note else ""
    return (
        f"Cheapest on the calibration images{note}: {rule}. On the test images a part is then expected to cost "
        f"{_cost(scores.at_point)}, against {_cost(scores.always_answer)} if every answer is acted on and "
        f"{_cost(scores.always_look)} if a person looks at every flagged part."
    )


def image_blind_sentence(report: AnswerReport) -> str:
    """Says that the answers are not shown to depend on the picture."""
    assert report.image_blind is not None
    return f"The answers are not shown to depend on the picture: {report.image_blind.note}."


def _figure(score: Score) -> str:
    ends = words.interval(score)
    return f"{words.percent(score.value)} [{ends}]" if ends else words.percent(score.value)


def _counted(score: Score) -> str:
    if score.value is None:
        return f"{words.ABSENT} ({score.note})"
    return f"{words.percent(score.value)} % [{words.interval(score)}] ({words.count(score)})"


def _cost(score: Score) -> str:
    if score.value is None:
        return f"{words.ABSENT} ({score.note})"
    ends = "" if score.low is None or score.high is None else f" [{score.low:.3f}\N{EN DASH}{score.high:.3f}]"
    return f"{score.value:.3f}{ends}"
