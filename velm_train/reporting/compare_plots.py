"""Figures of several runs go in, inline SVG drawings come out; colours are CSS classes, as in plots.py."""

import math
from collections.abc import Sequence
from html import escape

from velm_train.core.comparison import ComparedRun
from velm_train.core.scores import Score
from velm_train.reporting import words
from velm_train.reporting.compare_figures import score_of

NUM_COLOURS = 8
WIDTH = 520.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 14.0, 10.0, 34.0
ROW_HEIGHT = 22.0
CURVE_HEIGHT = 240.0
NUM_TICKS = 5


def colour(position: int) -> str:
    """Returns the CSS class of a run's or a stage's colour."""
    return f"run-{position % NUM_COLOURS}"


def forest_plot(runs: Sequence[ComparedRun], *, key: str, title: str) -> str:
    """Draws one figure of every run as a dot with its interval, on a scale that just holds them.

    Args:
        runs: one row a run.
        key: which figure.
        title: what is drawn, in words.
    """
    scores = [score_of(run, key) for run in runs]
    numbers = [number for score in scores for number in (score.value, score.low, score.high) if number is not None]
    if not numbers:
        return ""
    low, high = widened(100 * min(numbers), 100 * max(numbers), limits=(0.0, 100.0))
    height = TOP + ROW_HEIGHT * len(runs) + BOTTOM
    parts = []
    for tick in ticks(low, high):
        x = place(tick, low, high)
        parts.append(line("grid", x, TOP, x, height - BOTTOM))
        parts.append(text(x, height - BOTTOM + 14, f"{tick:g}", anchor="middle"))
    for position, (run, score) in enumerate(zip(runs, scores, strict=True)):
        y = TOP + ROW_HEIGHT * (position + 0.5)
        parts.append(text(LEFT - 10, y + 4, run.label, anchor="end"))
        parts += _dot(score, y, low, high, css=colour(position))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, height - 4, "percent", anchor="middle"))
    told = "; ".join(
        f"{run.label} {100 * score.value:.1f}"
        for run, score in zip(runs, scores, strict=True)
        if score.value is not None
    )
    return svg(title, f"Percent: {told}.", parts, height=height)


def difference_strip(score: Score, *, reach: float, label: str) -> str:
    """Draws a difference with its interval on a scale of equal length to both sides of no difference.

    Args:
        score: a difference of fractions.
        reach: end of the scale, a fraction above 0.
        label: what it is, in words.
    """

    def x(value: float) -> float:
        return 50 + 50 * value / reach

    parts = [line("grid", 0, 7, 100, 7), line("mark", 50, 0, 50, 14)]
    if score.low is not None and score.high is not None:
        parts.append(line("series-interval", x(score.low), 7, x(score.high), 7))
    if score.value is not None:
        parts.append(f'<circle class="series-dot" cx="{x(score.value):.1f}" cy="7" r="3.5"/>')
    value = "no figure" if score.value is None else f"{words.signed_points(score.value)} points"
    opening = f'<svg class="strip" viewBox="-5 0 110 14" role="img" aria-label="{escape(label)}: {value}">'
    return opening + "".join(parts) + "</svg>"


def loss_plot(runs: Sequence[ComparedRun]) -> str:
    """Draws the training loss of every run that has a history, on a logarithmic scale."""
    curves = {position: run.curve for position, run in enumerate(runs) if len(run.curve) > 1}
    losses = [point.loss for curve in curves.values() for point in curve if point.loss > 0]
    if not losses:
        return ""
    last_step = max(curve[-1].step for curve in curves.values())
    low, high = math.log10(min(losses)), math.log10(max(losses))
    high = high if high > low else low + 1
    plot_height = CURVE_HEIGHT - TOP - BOTTOM

    def y(loss: float) -> float:
        return TOP + plot_height * (high - math.log10(loss)) / (high - low)

    parts = []
    for exponent in range(math.ceil(low), math.floor(high) + 1):
        parts.append(line("grid", LEFT, y(10.0**exponent), WIDTH - RIGHT, y(10.0**exponent)))
        parts.append(text(LEFT - 6, y(10.0**exponent) + 4, f"{10.0**exponent:g}", anchor="end"))
    parts += [
        text(place(tick, 0, last_step), CURVE_HEIGHT - BOTTOM + 14, f"{tick:g}", anchor="middle")
        for tick in ticks(0, last_step)
    ]
    for position, curve in curves.items():
        points = " ".join(f"{place(p.step, 0, last_step):.1f},{y(p.loss):.1f}" for p in curve if p.loss > 0)
        parts.append(f'<polyline class="curve {colour(position)}" points="{points}"/>')
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, CURVE_HEIGHT - 4, "optimiser step", anchor="middle"))
    told = "; ".join(f"{runs[i].label} ends at {curve[-1].loss:.3g}" for i, curve in curves.items())
    return svg("Training loss", f"Logarithmic scale: {told}.", parts, height=CURVE_HEIGHT)


def seconds_plot(runs: Sequence[ComparedRun], *, stages: Sequence[str]) -> str:
    """Draws seconds per image as one bar a run; stages stand behind each other.

    Args:
        runs: one row a run.
        stages: in the order of the segments; a stage counts with its mean over the images that went through it.
    """
    totals = [sum(_seconds(run, stage) for stage in stages) for run in runs]
    if not any(totals):
        return ""
    longest = max(totals)
    height = TOP + ROW_HEIGHT * len(runs) + BOTTOM
    parts = []
    for tick in ticks(0, longest):
        x = place(tick, 0, longest)
        parts.append(line("grid", x, TOP, x, height - BOTTOM))
        parts.append(text(x, height - BOTTOM + 14, f"{tick:g}", anchor="middle"))
    for position, run in enumerate(runs):
        y = TOP + ROW_HEIGHT * position
        parts.append(text(LEFT - 10, y + ROW_HEIGHT / 2 + 4, run.label, anchor="end"))
        start = 0.0
        for i, stage in enumerate(stages):
            x0, x1 = place(start, 0, longest), place(start + _seconds(run, stage), 0, longest)
            parts.append(
                f'<rect class="{colour(i)}" x="{x0:.1f}" y="{y + 4:.1f}" width="{x1 - x0:.1f}" '
                f'height="{ROW_HEIGHT - 8:.1f}"/>'
            )
            start += _seconds(run, stage)
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, height - 4, "seconds", anchor="middle"))
    told = "; ".join(f"{run.label} {total:.3g}" for run, total in zip(runs, totals, strict=True))
    return svg("Seconds an image that passes every stage", f"{told}.", parts, height=height)


def _seconds(run: ComparedRun, stage: str) -> float:
    seconds = run.cost.seconds_per_image
    return seconds[stage] if stage in seconds else 0.0


def _dot(score: Score, y: float, low: float, high: float, *, css: str) -> list[str]:
    parts = []
    if score.low is not None and score.high is not None:
        ends = [place(100 * end, low, high) for end in (score.low, score.high)]
        parts.append(line(f"whisker {css}", ends[0], y, ends[1], y))
    if score.value is not None:
        parts.append(f'<circle class="{css}" cx="{place(100 * score.value, low, high):.1f}" cy="{y:.1f}" r="4.5"/>')
    return parts


def widened(low: float, high: float, *, limits: tuple[float, float]) -> tuple[float, float]:
    """Returns a range with some air on both sides, inside the limits."""
    air = max(1.0, 0.08 * (high - low))
    return max(limits[0], low - air), min(limits[1], high + air)


def ticks(low: float, high: float) -> list[float]:
    """Returns about five round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low) / NUM_TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= NUM_TICKS)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def place(value: float, low: float, high: float) -> float:
    """Returns where a value of a scale lies on the drawing's width."""
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)


def line(css_class: str, x0: float, y0: float, x1: float, y1: float) -> str:
    """Returns a line of a CSS class."""
    return f'<line class="{css_class}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def text(x: float, y: float, words: str, *, anchor: str) -> str:
    """Returns a text at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def svg(title: str, description: str, parts: Sequence[str], *, height: float) -> str:
    """Returns a drawing with what it shows in words."""
    return (
        f'<svg class="plot wide" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(title)}. '
        f'{escape(description)}"><title>{escape(title)}</title><desc>{escape(description)}</desc>'
        + "".join(parts)
        + "</svg>"
    )
