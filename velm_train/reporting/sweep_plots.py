"""The rows of a sweep go in; a drawing of the objective by settings, and of what Optuna found in which order, out."""

from velm_train.core.comparison import Sweep
from velm_train.core.study import StudyFacts
from velm_train.reporting.compare_plots import (
    BOTTOM,
    CURVE_HEIGHT,
    LEFT,
    RIGHT,
    ROW_HEIGHT,
    TOP,
    WIDTH,
    line,
    place,
    svg,
    text,
    ticks,
    widened,
)

MAX_DRAWN = 30
"""Rows that a drawing shows; the table has all."""


def settings_plot(sweep: Sweep) -> str:
    """Draws each row as its seeds, their mean and its interval; nothing without a figure."""
    rows = [row for row in sweep.rows if row.mean is not None][:MAX_DRAWN]
    numbers = [100 * v for row in rows for v in (row.low, row.high, *row.values) if v is not None]
    if not numbers:
        return ""
    low, high = widened(max(0.0, min(numbers)), min(100.0, max(numbers)), limits=(0.0, 100.0))
    height = TOP + 2 * ROW_HEIGHT * len(rows) + BOTTOM
    parts = []
    for tick in ticks(low, high):
        x = place(tick, low, high)
        parts += [line("grid", x, TOP, x, height - BOTTOM), text(x, height - BOTTOM + 14, f"{tick:g}", anchor="middle")]
    told = []
    for i, row in enumerate(rows):
        y = TOP + 2 * ROW_HEIGHT * i
        name = ", ".join(f"{key}={value}" for key, value in zip(sweep.keys, row.settings, strict=True)) or "all jobs"
        parts.append(text(LEFT, y + 14, name, anchor="start"))
        y += 1.5 * ROW_HEIGHT
        if row.low is not None and row.high is not None:
            ends = [place(min(max(100 * end, low), high), low, high) for end in (row.low, row.high)]
            parts.append(line("whisker run-0", ends[0], y, ends[1], y))
        dots = [(value, "run-0 seed", 3.0) for value in row.values if len(row.values) > 1]
        assert row.mean is not None
        for value, css, radius in [*dots, (row.mean, "run-0", 5.0)]:
            x = place(100 * value, low, high)
            parts.append(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>')
        told.append(f"{name} {100 * row.mean:.1f}")
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, height - 4, "percent", anchor="middle"))
    return svg("Objective by settings", f"Percent: {'; '.join(told)}.", parts, height=height)


def history_plot(study: StudyFacts) -> str:
    """Draws the objective of every finished trial by number, and the highest so far."""
    points = [(trial.number, 100 * trial.value) for trial in study.trials if trial.value is not None]
    if len(points) < 2:
        return ""
    low, high = widened(min(v for _, v in points), max(v for _, v in points), limits=(0.0, 100.0))
    last = max(trial.number for trial in study.trials)
    bottom = CURVE_HEIGHT - BOTTOM

    def y(value: float) -> float:
        return TOP + (bottom - TOP) * (high - value) / (high - low)

    parts = []
    for tick in ticks(low, high):
        parts += [
            line("grid", LEFT, y(tick), WIDTH - RIGHT, y(tick)),
            text(LEFT - 6, y(tick) + 4, f"{tick:g}", anchor="end"),
        ]
    for tick in {round(tick) for tick in ticks(0, last)}:
        parts.append(text(place(tick, 0, last), bottom + 14, f"{tick}", anchor="middle"))
    best, corners = points[0][1], []
    for number, value in points:
        corners.append((number, best))
        best = max(best, value)
        corners.append((number, best))
    path = " ".join(f"{place(number, 0, last):.1f},{y(value):.1f}" for number, value in corners)
    parts.append(f'<polyline class="curve run-1" points="{path}"/>')
    for number, value in points:
        parts.append(f'<circle class="run-0" cx="{place(number, 0, last):.1f}" cy="{y(value):.1f}" r="4"/>')
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, CURVE_HEIGHT - 4, "trial", anchor="middle"))
    return svg(
        "Trials in their order", f"Percent; the line is the highest so far, {best:.1f}.", parts, height=CURVE_HEIGHT
    )


def importance_plot(study: StudyFacts) -> str:
    """Draws how much of the objective's variance goes back to each setting; nothing where it is not known."""
    shares = sorted(study.importances.items(), key=lambda item: -item[1])
    if not shares:
        return ""
    height = TOP + 2 * ROW_HEIGHT * len(shares)
    parts = []
    for i, (key, share) in enumerate(shares):
        y = TOP + 2 * ROW_HEIGHT * i
        parts.append(text(LEFT, y + 14, f"{key}: {100 * share:.0f} %", anchor="start"))
        width = place(share, 0.0, 1.0) - LEFT
        parts.append(f'<rect class="run-0" x="{LEFT:.1f}" y="{y + 20:.1f}" width="{width:.1f}" height="12"/>')
    told = "; ".join(f"{key} {100 * share:.0f} %" for key, share in shares)
    return svg("Importance of the settings", f"Share of the variance: {told}.", parts, height=height)
