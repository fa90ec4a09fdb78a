"""Rows about new pictures go in; a table, sentences for the terminal, and one self-contained HTML page come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from rich.table import Table

from velm_train.core.artifacts import write_atomic
from velm_train.core.images import cut_out
from velm_train.core.inspection import GATE_STAGES, MODEL_STAGES, Inspection, InspectionSummary, Verdict
from velm_train.core.records import GatePolicy
from velm_train.core.shapes import RGBImage
from velm_train.reporting.figures import draw_contours, thumbnail
from velm_train.reporting.pages import render_page
from velm_train.reporting.words import seconds as seconds_in_words

MAX_SIDE_PX = 240
"""Longer side of a drawn picture."""

MAX_OPTIONS = 5
"""Options that a card shows."""

SECTIONS: tuple[tuple[Verdict, str, str], ...] = (
    ("defect", "Defects", "Flagged by the gate, and named by the model."),
    ("unknown type", "Unknown types", "Flagged by the gate; the model finds that no name of the list fits."),
    (
        "unsure",
        "Unsure",
        "Flagged by the gate; the likeliest answer is less sure than asked for. Look at these.",
    ),
    ("no defect", "No defect after all", "Flagged by the gate; the model takes it for a false alarm."),
    ("unreadable", "Unreadable", "Files about which nothing can be said."),
    ("good", "Good", "Let pass by the gate; the model was never asked."),
)
"""Verdicts in the order of interest, with heading and meaning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnPicture:
    """One picture made small.

    Attributes:
        outline: the whole picture with the regions outlined.
        crop: what the model was shown of the strongest region; None if it was not asked.
    """

    outline: UInt8[np.ndarray, "_ _ 3"]
    crop: UInt8[np.ndarray, "_ _ 3"] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionContent:
    """Everything the page shows.

    Attributes:
        rows: one a picture.
        alphas: category -> false-alarm rate of its gate.
        drawn: path -> picture, for as many as are drawn.
        policy: of the gate.
    """

    title: str
    subtitle: str
    rows: tuple[Inspection, ...]
    summary: InspectionSummary
    alphas: Mapping[str, float]
    drawn: Mapping[str, DrawnPicture]
    policy: GatePolicy


def drawn_first(rows: Sequence[Inspection]) -> list[Inspection]:
    """Returns the flagged rows in the order in which they are worth drawing: by verdict, then as given."""
    order = {verdict: number for number, (verdict, _, _) in enumerate(SECTIONS)}
    return sorted((row for row in rows if row.flagged), key=lambda row: order[row.verdict])


def draw(image: RGBImage, row: Inspection) -> DrawnPicture:
    """Returns what the page shows of one picture.

    Args:
        image: original pixels.
        row: what was said about it.
    """
    small = thumbnail(image, max_side_px=MAX_SIDE_PX)
    scale = small.shape[1] / image.shape[1]
    contours = [np.array(region.contour, dtype=np.float64) for region in row.regions if region.contour]
    scaled = [(contour * scale).round().astype(np.int64) for contour in contours]
    crop = cut_out(image, row.regions[0].crop_xyxy) if row.regions else None
    return DrawnPicture(
        outline=draw_contours(small, scaled),
        crop=None if crop is None else thumbnail(crop, max_side_px=MAX_SIDE_PX),
    )


def counted(number: int, *, kind: str = "") -> str:
    """Returns a number of pictures in words."""
    return f"{number} {kind}{'picture' if number == 1 else 'pictures'}"


def verdict_table(summary: InspectionSummary) -> Table:
    """Returns the counts for the terminal."""
    table = Table(title=counted(summary.num_pictures))
    table.add_column("verdict")
    table.add_column("pictures", justify="right")
    for verdict, _, _ in SECTIONS:
        if summary.verdicts[verdict]:
            table.add_row(verdict, str(summary.verdicts[verdict]), style="bold")
        if verdict == "defect":
            for name, number in summary.types.items():
                table.add_row(f"  {name}", str(number))
    return table


def sentences(content: PredictionContent) -> list[str]:
    """Returns what must be said beside the counts: time, drift, and what the figures do not mean."""
    summary = content.summary
    said = [time_sentence(summary), *drift_sentences(summary), probability_sentence(summary)]
    if content.policy == "off":
        said.append("The run's gate policy is 'off': every picture is flagged, and the model was asked about all.")
    seen = {role: number for role, number in summary.known_to_run.items() if role != "test"}
    if seen:
        listed = ", ".join(f"{number} as {role}" for role, number in seen.items())
        said.append(
            f"The run's own among these files: {sum(seen.values())} ({listed}). Detector or model have seen them, so "
            "that their p-values mean nothing."
        )
    if summary.num_reused:
        said.append(f"Made by an earlier command and repeated here: {summary.num_reused} of {summary.num_pictures}.")
    return [sentence for sentence in said if sentence]


def time_sentence(summary: InspectionSummary) -> str:
    """Says what a picture takes: t_gate + P(pass) t_model, with both parts; "" if nothing was measured."""
    expected = summary.expected_time
    if expected is None:
        return ""
    flagged = f"flagged: {expected.num_flagged} of {expected.num_pictures}"
    if expected.model_seconds is None:
        return f"Expected time a picture: t_gate = {expected.gate_seconds:.3f} s ({flagged}; t_model is not known)"
    return (
        f"Expected time a picture: t_gate + P(pass) t_model = {expected.gate_seconds:.3f} s + "
        f"{expected.pass_share:.3f} x {expected.model_seconds:.3f} s = {expected.seconds:.3f} s ({flagged})"
    )


def drift_sentences(summary: InspectionSummary) -> list[str]:
    """Says for every category whether scores still look like those that set the threshold."""
    said = []
    for one in summary.drift:
        figures = (
            f"KS = {one.statistic:.2f}, p = {one.p_value:.2g}, {counted(one.num_new, kind='new ')} against "
            f"{one.num_calibration} calibration scores"
        )
        if one.too_few:
            said.append(
                f"Too few pictures of {one.category} to tell whether scores have drifted ({figures}): p is "
                f"{one.least_p_value:.2g} at the least with so few, and drift is reported from {one.level:g} down."
            )
        elif one.drifted:
            said.append(
                f"Drift in {one.category}: scores are not like those of the good parts that set the threshold "
                f"({figures}). Many defects do the same to this test; if the parts are good, calibrate on newer ones."
            )
        else:
            said.append(f"No drift found in {one.category} ({figures}).")
    return said


def probability_sentence(summary: InspectionSummary) -> str:
    """Says what the probabilities are."""
    kind = (
        "Probabilities are shares of the model's likelihoods, not calibrated."
        if summary.temperature is None
        else f"Probabilities are calibrated with the run's temperature, {summary.temperature:.3g}."
    )
    if summary.set_coverage is not None:
        kind += f" Sets of answers, where shown, are to hold the true type in {100 * summary.set_coverage:g} %."
    if summary.abstain_below <= 0:
        return kind
    return f"{kind} Answers below {summary.abstain_below:.3g} are called unsure."


def write_prediction_page(content: PredictionContent, path: Path) -> None:
    """Writes the page atomically.

    Raises:
        ResourceError: if the file cannot be written.
    """
    write_atomic(path, render_prediction_page(content))


def render_prediction_page(content: PredictionContent) -> str:
    """Returns the page as HTML text."""
    return render_page(
        "prediction.html.j2",
        styles=("report.css", "prediction.css"),
        names={"content": content, "view": PredictionView(content)},
    )


class PredictionView:
    """What the template asks about the content beyond its plain fields."""

    max_options = MAX_OPTIONS

    def __init__(self, content: PredictionContent) -> None:
        """Remembers the content."""
        self._content = content

    def title(self) -> str:
        """Returns the heading of the page."""
        return f"{counted(self._content.summary.num_pictures)}, judged by {self._content.title}"

    def sections(self) -> list[tuple[Verdict, str, str, list[Inspection]]]:
        """Returns verdict, heading, meaning and rows of every verdict that occurs."""
        return [
            (verdict, heading, meaning, rows)
            for verdict, heading, meaning in SECTIONS
            if (rows := [row for row in self._content.rows if row.verdict == verdict])
        ]

    def sentences(self) -> list[str]:
        """Returns what must be said beside the counts."""
        return sentences(self._content)

    def picture(self, row: Inspection) -> DrawnPicture | None:
        """Returns a row's drawn picture, or None."""
        return self._content.drawn[row.path] if row.path in self._content.drawn else None

    def gate_seconds(self, row: Inspection) -> str:
        """Returns what the gate took, or a dash."""
        return self._seconds(row, GATE_STAGES)

    def model_seconds(self, row: Inspection) -> str:
        """Returns what the model took, or a dash if it was not asked."""
        return self._seconds(row, MODEL_STAGES)

    def stages(self, row: Inspection) -> list[tuple[str, str]]:
        """Returns the seconds of every stage in words."""
        return [(stage, seconds_in_words(value)) for stage, value in row.seconds.items()]

    def _seconds(self, row: Inspection, stages: Sequence[str]) -> str:
        known = [row.seconds[stage] for stage in stages if stage in row.seconds]
        return seconds_in_words(sum(known)) if known else "\N{EN DASH}"
