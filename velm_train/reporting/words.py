"""Scores go in, the words and numbers that people read come out; the terminal and the report share them."""

from collections.abc import Mapping, Sequence

from velm_train.core.scores import GroupScores, Score, ScoreboardRow

ABSENT = "\N{EN DASH}"
"""Stands where there is no figure."""


def percent(value: float | None) -> str:
    """Returns a fraction as a percentage with one decimal and no sign, or a dash."""
    return ABSENT if value is None else f"{100 * value:.1f}"


def interval(score: Score) -> str:
    """Returns the ends of the interval in percent, or "" if there is none."""
    if score.low is None or score.high is None:
        return ""
    return f"{100 * score.low:.1f}\N{EN DASH}{100 * score.high:.1f}"


def signed_points(value: float | None) -> str:
    """Returns a difference of fractions in percentage points with its sign, or a dash."""
    if value is None:
        return ABSENT
    return f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def signed_interval(score: Score) -> str:
    """Returns the ends of a difference's interval in points, or "" if there is none."""
    if score.low is None or score.high is None:
        return ""
    return f"{signed_points(score.low)} to {signed_points(score.high)}"


def count(score: Score) -> str:
    """Returns "k of n" for a plain proportion, else "n = ..."."""
    return f"n = {score.n}" if score.k is None else f"{score.k} of {score.n}"


def seconds(value: float) -> str:
    """Returns a duration in the unit that reads best."""
    if value < 1:
        return f"{1000 * value:.0f} ms" if value >= 0.001 else f"{1e6 * value:.0f} µs"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def gigabytes(num_bytes: int | None) -> str:
    """Returns memory in GB with two decimals, or a dash."""
    return ABSENT if num_bytes is None else f"{num_bytes / 1e9:.2f} GB"


def p_value(value: float) -> str:
    """Returns a p-value, never as zero."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def out_of_hundred(shares: Sequence[float]) -> list[int]:
    """Rounds shares that add up to 1 to whole numbers that add up to 100 (largest remainders)."""
    exact = [100 * share for share in shares]
    whole = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: exact[i] - whole[i], reverse=True)
    for i in by_remainder[: round(sum(exact)) - sum(whole)]:
        whole[i] += 1
    return whole


def defect_sentence(group: GroupScores) -> str:
    """Says what becomes of 100 defective parts, in plain words."""
    outcomes = group.outcomes
    scores = (
        outcomes.defects_named_right,
        outcomes.defects_named_wrong,
        outcomes.defects_passed_as_good,
        outcomes.defects_unnamed,
    )
    if any(score.value is None for score in scores):
        return "No defective part was tested."
    right, wrong, as_good, unnamed = out_of_hundred([score.value or 0.0 for score in scores])
    sentence = (
        f"Of 100 defective parts, {right} {_are(right)} flagged and named right, {wrong} {_are(wrong)} flagged under a "
        f"wrong name{',' if unnamed else ' and'} {as_good} {'passes' if as_good == 1 else 'pass'} as good"
    )
    return sentence + (f", and {unnamed} {_are(unnamed)} flagged without a name." if unnamed else ".")


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def normal_sentence(group: GroupScores) -> str:
    """Says what becomes of 100 good parts, in plain words."""
    alarms = group.outcomes.normals_stopped
    if alarms.value is None:
        return "No good part was tested."
    number = round(100 * alarms.value)
    if number == 0 and alarms.k:
        return f"Of 100 good parts, fewer than one ends as a false alarm ({alarms.k} of {alarms.n})."
    return f"Of 100 good parts, {number} {'ends' if number == 1 else 'end'} as a false alarm."


def evidence_sentence(group: GroupScores) -> str:
    """Says how sure the two sentences before it are."""
    parts = []
    right, alarms = group.outcomes.defects_named_right, group.outcomes.normals_stopped
    if right.value is not None:
        parts.append(f"named right {right.k} of {right.n} defective parts, 95 % interval {interval(right)} in 100")
    if alarms.value is not None:
        parts.append(f"false alarms on {alarms.k} of {alarms.n} good parts, {interval(alarms)} in 100")
    return "Counted: " + "; ".join(parts) + "." if parts else ""


def row_marks(row: ScoreboardRow, *, num_images: int) -> list[str]:
    """Returns what must be said beside a scoreboard row's name: trivial, other gate, fewer images."""
    marks = ["trivial"] if row.trivial else []
    other_gates = [policy for policy in row.scores.gate_policies if policy != "detector"]
    if other_gates and not row.trivial:
        marks.append(f"gate: {', '.join(other_gates)}")
    if row.subset_note or row.scores.overall.num_images != num_images:
        marks.append(f"{row.scores.overall.num_images} of {num_images} images: {row.subset_note}")
    return marks


def display_name(display_names: Mapping[str, Mapping[str, str]], category: str, defect_type: str) -> str:
    """Returns a type's readable name if one was given, else its folder name."""
    return display_names.get(category, {}).get(defect_type, defect_type)
