"""A gate report goes in; gate_card.json and one self-contained HTML page without scripts come out."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.gate_card import AlphaRow, CategoryGate, GateReport, JudgedImage, Use
from velm_train.core.plain import read_record
from velm_train.reporting.figures import Picture
from velm_train.reporting.pages import render_page
from velm_train.reporting.plots import interval_strip, score_histogram

SCHEMA_VERSION = 2
NUM_WORST = 3
"""Images shown of each kind in a category."""

MAX_SUSPECTS = 6
"""Suspect images shown and named one by one in a category; the file holds all."""

MAX_OPEN_CATEGORIES = 4
"""With more categories than this, their details are folded away."""


def write_gate_card(report: GateReport, path: Path) -> None:
    """Writes gate_card.json atomically.

    Raises:
        ValueError: if a number is not finite.
        ResourceError: if the file cannot be written.
    """
    body = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(report)}
    write_atomic(path, json.dumps(body, indent=1, allow_nan=False) + "\n")


def read_gate_card(path: Path) -> GateReport:
    """Reads gate_card.json.

    Raises:
        ArtifactError: if it is absent, not JSON, of another schema version, or lacks a field.
    """
    try:
        body = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}; run task=detect again") from error
    version = body.pop("schema_version", None) if isinstance(body, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}; run task=detect again")
    try:
        return read_record(GateReport, body)
    except DataError as error:
        raise ArtifactError(f"{path}: {error}; run task=detect again") from error


def shown_images(category: CategoryGate) -> dict[str, list[JudgedImage]]:
    """Returns the images that the page shows of a category, by heading: the worst normals, defects and suspects."""
    use: Use = "test" if category.scores("test", defective=False) else "calibration"
    suspected = {suspect.image_id for suspect in category.suspects[:MAX_SUSPECTS]}
    highest = category.highest("calibration", num_images=category.num_calibration_images)
    shown = {
        "Normal images that look most like defects": category.highest(use, num_images=NUM_WORST),
        "Defects that look most like normal images": category.lowest_defects(num_images=NUM_WORST),
        "Odd ones among the normal images that set the threshold": [
            image for image in highest if image.image_id in suspected
        ],
    }
    return {heading: images for heading, images in shown.items() if images}


def render_gate_page(report: GateReport, *, pictures: Mapping[str, tuple[Picture, ...]], config_yaml: str) -> str:
    """Returns the page as HTML text.

    Args:
        report: what the page says.
        pictures: image_id -> pictures of it, for every image of `shown_images`.
        config_yaml: the resolved configuration.
    """
    return render_page(
        "gate.html.j2",
        styles=("report.css", "gate.css"),
        names={"report": report, "view": GateView(report), "pictures": pictures, "config_yaml": config_yaml},
    )


class GateView:
    """What the template asks about the report beyond its plain fields."""

    def __init__(self, report: GateReport) -> None:
        """Remembers the report."""
        self._report = report

    @property
    def folded(self) -> bool:
        """True if there are too many categories to show their details open."""
        return len(self._report.categories) > MAX_OPEN_CATEGORIES

    def own_row(self, category: CategoryGate) -> AlphaRow:
        """Returns a category's row at the alpha of the run."""
        return category.row(self._report.alpha)

    def shown(self, category: CategoryGate) -> dict[str, list[JudgedImage]]:
        """Returns the images to show, by heading."""
        return shown_images(category)

    def histogram(self, category: CategoryGate) -> Markup:
        """Returns the drawing of a category's scores."""
        return Markup(
            score_histogram(
                title=f"Anomaly scores of {category.category}",
                threshold=category.image_threshold,
                calibration=category.scores("calibration", defective=False),
                normals=category.scores("test", defective=False),
                defects=category.scores("test", defective=True),
            )
        )

    def strip(self, category: CategoryGate) -> Markup:
        """Returns the drawing of a category's false alarms, with what is promised as reference."""
        row = self.own_row(category)
        return Markup(
            interval_strip(row.false_alarms, label=f"{category.category}, false alarms", reference=row.promised_rate)
        )

    def found_words(self, row: AlphaRow) -> str:
        """Returns how many false alarms would be no surprise, in words."""
        if row.expected_low is None or row.expected_high is None:
            return ""
        if row.expected_low == row.expected_high:
            return str(row.expected_low)
        return f"{row.expected_low} to {row.expected_high}"
