"""Numbers go in, small inline SVG drawings come out.

Colours are CSS classes (`series-*`, `axis`, `grid`, `mark`), so a page decides them once for light and dark.
Every drawing carries a title and a description for people who cannot see it.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float

from velm_train.core.answer_scores import ReliabilityBin
from velm_train.core.scores import RiskPoint, Score

WIDTH = 360.0
HEIGHT = 170.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 10.0, 14.0, 34.0
NUM_BINS = 28


def score_histogram(
    *,
    title: str,
    threshold: float,
    calibration: Sequence[float],
    normals: Sequence[float],
    defects: Sequence[float],
) -> str:
    """Draws normal images above the axis and defective ones below, each as shares of its own number.

    Args:
        title: what is drawn, in words.
        threshold: the gate's threshold, raw detector units.
        calibration: scores of the normal images that set the threshold; drawn as a line.
        normals: scores of normal test images.
        defects: scores of defective test images.
    """
    edges = _edges([*calibration, *normals, *defects], threshold)
    shares = {"calibration": calibration, "normal": normals, "defect": defects}
    heights = {name: _shares(values, edges) for name, values in shares.items()}
    tallest = max(float(values.max()) for values in heights.values()) or 1.0
    plot_width, half = WIDTH - LEFT - RIGHT, (HEIGHT - TOP - BOTTOM) / 2
    middle, bar = TOP + half, plot_width / NUM_BINS
    parts = []
    for name, direction in (("normal", -1), ("defect", 1)):
        for i, share in enumerate(heights[name]):
            height = half * float(share) / tallest
            top = middle - height if direction < 0 else middle
            if height > 0:
                parts.append(
                    f'<rect class="series-{name}" x="{LEFT + i * bar + 0.5:.1f}" y="{top:.1f}" '
                    f'width="{bar - 1:.1f}" height="{height:.1f}"/>'
                )
    steps = [
        f"{LEFT + x * bar:.1f},{middle - half * float(share) / tallest:.1f}"
        for i, share in enumerate(heights["calibration"])
        for x in (i, i + 1)
    ]
    parts.append(f'<polyline class="series-calibration" points="{" ".join(steps)}"/>')
    parts.append(_line("axis", LEFT, middle, WIDTH - RIGHT, middle))
    parts += _threshold_mark(threshold, edges)
    parts += _histogram_labels(edges, middle=middle, half=half, tallest=tallest)
    description = (
        f"Threshold {threshold:.4g}. {_above(normals, threshold)} normal and {_above(defects, threshold)} defective "
        f"test images lie above it."
    )
    return _svg(title, description, parts)


def risk_coverage_plot(points: Sequence[RiskPoint], *, title: str) -> str:
    """Draws the error share among the answers kept, against the share of answers kept."""
    top_risk = max(0.1, *(point.risk for point in points))
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(point: RiskPoint) -> str:
        return f"{LEFT + plot_width * point.coverage:.1f},{TOP + plot_height * (1 - point.risk / top_risk):.1f}"

    parts = []
    for share in (0.0, 0.5, 1.0):
        y = TOP + plot_height * (1 - share)
        parts.append(_line("grid", LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(LEFT - 4, y + 4, f"{100 * share * top_risk:.0f} %", anchor="end"))
    parts += [
        _text(LEFT + plot_width * share, HEIGHT - BOTTOM + 13, f"{100 * share:.0f}", anchor="middle")
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts.append(_text(LEFT + plot_width / 2, HEIGHT - 4, "answers kept, most confident first (%)", anchor="middle"))
    parts.append(f'<polyline class="series-risk" points="{" ".join(place(point) for point in points)}"/>')
    half_kept = min(points, key=lambda point: abs(point.coverage - 0.5))
    description = (
        f"Of all answers {100 * points[-1].risk:.1f} % are wrong; of the most confident "
        f"{100 * half_kept.coverage:.0f} % it is {100 * half_kept.risk:.1f} %."
    )
    return _svg(title, description, parts)


def reliability_plot(before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin], *, title: str) -> str:
    """Draws the share of right answers against their confidence, with 95 % intervals; on the diagonal both agree.

    Args:
        before: bins of the confidence that the model gives, at least one.
        after: bins of the calibrated confidence, or none.
        title: what is drawn, in words.
    """
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x_of(share: float) -> float:
        return LEFT + plot_width * share

    def y_of(share: float) -> float:
        return TOP + plot_height * (1 - share)

    parts = [_line("grid", x_of(0), y_of(0), x_of(1), y_of(1)), _line("axis", x_of(0), y_of(0), x_of(1), y_of(0))]
    parts += [_text(LEFT - 4, y_of(share) + 4, f"{100 * share:.0f} %", anchor="end") for share in (0.0, 0.5, 1.0)]
    parts += [
        _text(x_of(share), HEIGHT - BOTTOM + 13, f"{100 * share:.0f}", anchor="middle")
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    parts.append(_text(x_of(0.5), HEIGHT - 4, "confidence (%), against share of right answers", anchor="middle"))
    for name, bins in (("before", before), ("after", after)):
        for one in bins:
            x = x_of(one.mean_confidence)
            if one.accuracy.low is not None and one.accuracy.high is not None:
                parts.append(_line(f"series-{name}", x, y_of(one.accuracy.low), x, y_of(one.accuracy.high)))
            if one.accuracy.value is not None:
                y = y_of(one.accuracy.value)
                parts.append(f'<circle class="series-{name}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    shown = after or before
    description = "; ".join(
        f"of {one.accuracy.n} answers at about {100 * one.mean_confidence:.0f} % {one.accuracy.k} are right"
        for one in shown
    )
    return _svg(title, description[0].upper() + description[1:] + ".", parts)


def interval_strip(score: Score, *, label: str, reference: float | None = None) -> str:
    """Draws one figure on a scale from 0 to 100 %: a dot, its interval, and a tick at a reference value.

    Args:
        score: the figure.
        label: what it is, in words.
        reference: a fraction to mark, such as the same figure of the first row.
    """
    parts = [_line("grid", 0, 7, 100, 7)]
    if reference is not None:
        parts.append(_line("mark", 100 * reference, 0, 100 * reference, 14))
    if score.low is not None and score.high is not None:
        parts.append(_line("series-interval", 100 * score.low, 7, 100 * score.high, 7))
    if score.value is not None:
        parts.append(f'<circle class="series-dot" cx="{100 * score.value:.1f}" cy="7" r="3.5"/>')
    value = "no figure" if score.value is None else f"{100 * score.value:.1f} %"
    opening = f'<svg class="strip" viewBox="-5 0 110 14" role="img" aria-label="{escape(label)}: {value}">'
    return opening + "".join(parts) + "</svg>"


def _edges(values: Sequence[float], threshold: float) -> Float[np.ndarray, " edges"]:
    """Returns bin edges; the highest 1 % of scores share the last bin, so that one outlier hides nothing."""
    everything = np.array([*values, threshold], dtype=np.float64)
    low, high = float(everything.min()), float(np.quantile(everything, 0.99))
    high = max(high, threshold + 0.15 * (threshold - low))
    return np.linspace(low, high if high > low else low + 1.0, NUM_BINS + 1)


def _shares(values: Sequence[float], edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " bins"]:
    clipped = np.clip(np.array(values, dtype=np.float64), edges[0], edges[-1])
    counts = np.histogram(clipped, bins=edges)[0]
    return np.asarray(counts / max(1, len(values)))


def _threshold_mark(threshold: float, edges: Float[np.ndarray, " edges"]) -> list[str]:
    share = (threshold - edges[0]) / (edges[-1] - edges[0])
    x = LEFT + (WIDTH - LEFT - RIGHT) * float(share)
    anchor = "end" if share > 0.6 else "start"
    return [
        _line("mark", x, TOP - 4, x, HEIGHT - BOTTOM),
        _text(x + (-4 if anchor == "end" else 4), TOP + 4, "threshold", anchor=anchor),
    ]


def _histogram_labels(edges: Float[np.ndarray, " edges"], *, middle: float, half: float, tallest: float) -> list[str]:
    ticks = [_text(LEFT - 4, y + 4, f"{100 * tallest:.0f} %", anchor="end") for y in (middle - half, middle + half)]
    return [
        *ticks,
        _text(LEFT - 4, middle + 4, "0", anchor="end"),
        _text(LEFT, HEIGHT - BOTTOM + 13, f"{edges[0]:.3g}", anchor="start"),
        _text(WIDTH - RIGHT, HEIGHT - BOTTOM + 13, f"≥ {edges[-1]:.3g}", anchor="end"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "anomaly score", anchor="middle"),
    ]


def _above(values: Sequence[float], threshold: float) -> str:
    return f"{sum(value > threshold for value in values)} of {len(values)}"


def _line(css_class: str, x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line class="{css_class}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _text(x: float, y: float, text: str, *, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, description: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" aria-label="{escape(title)}. '
        f'{escape(description)}"><title>{escape(title)}</title><desc>{escape(description)}</desc>'
        + "".join(parts)
        + "</svg>"
    )
