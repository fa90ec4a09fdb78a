"""Columns and a metric go in; resampling weights, 95 % intervals and paired tests come out.

A metric is a function of image weights: weight 1 everywhere gives the figure itself, the weights of a bootstrap
resample one resampled value. All resamples are computed at once, (R, n) weights to (R,) values.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from velm_train.core.errors import DataError
from velm_train.core.scores import PairedDifference, Score
from velm_train.core.seeding import generator
from velm_train.metrics.table import PredictionTable

CONFIDENCE_LEVEL = 0.95

NO_SPREAD = 1e-12
"""Resamples that differ by less give no interval: one without width would look like certainty."""

Weights = Float[np.ndarray, "R n"]
"""How much each of n images counts in each of R resamples, 0 or more; on average 1."""

Values = Float[np.ndarray, " R"]
"""A metric's value in each resample; NaN where it is not defined."""

Metric = Callable[[np.ndarray], np.ndarray]
"""Weights in, Values out."""


def stratified_weights(strata: Int[np.ndarray, " n"], *, num_bootstrap: int, seed: int) -> Weights:
    """Draws how much each image counts in each resample, stratum by stratum.

    Of the n images of a stratum n - 1 are drawn with replacement, and each counts n / (n - 1) times as often as it was
    drawn (the rescaled bootstrap: Rao and Wu 1988; Rao, Wu and Yue 1992). Drawing n of n would make the variance too
    small by that factor, a quarter at four images a type. Every stratum keeps its size, so no defect type vanishes.
    A stratum of one image never varies: intervals over such types are too narrow, and the counts beside them say so.

    Raises:
        DataError: if fewer than 1 resample is asked for.
    """
    if num_bootstrap < 1:
        raise DataError(f"num_bootstrap is {num_bootstrap}; it must be at least 1")
    rng = generator(seed, "metrics", "bootstrap")
    weights = np.empty((num_bootstrap, len(strata)), dtype=np.float64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        num, drawn = len(members), max(1, len(members) - 1)
        times = rng.multinomial(drawn, np.full(num, 1 / num), size=num_bootstrap)
        weights[:, members] = times * (num / drawn)
    return weights


def proportion(hits: Bool[np.ndarray, " m"], *, if_empty: str) -> Score:
    """Returns k of m with the exact Clopper-Pearson interval; `if_empty` is the note when m is 0."""
    num_images, num_hits = len(hits), int(hits.sum())
    if num_images == 0:
        return Score.undefined(if_empty)
    low, high = clopper_pearson(num_hits, num_images)
    return Score(
        value=num_hits / num_images, low=low, high=high, n=num_images, k=num_hits, interval="clopper-pearson", note=""
    )


def weighted_mean(values: Float[np.ndarray, " n"], weights: Weights) -> Values:
    """Returns the mean of the images' values in each resample; NaN where no image was drawn."""
    total = weights.sum(axis=1)
    return np.asarray(np.where(total > 0, weights @ values / np.where(total > 0, total, 1), np.nan))


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """Returns the exact 95 % interval of a proportion k / n (Clopper and Pearson 1934)."""
    assert 0 <= k <= n, (k, n)
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low = 0.0 if k == 0 else float(stats.beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(stats.beta.ppf(1 - tail, k + 1, n - k))
    return low, high


def bootstrap_score(
    metric: Metric, weights: Weights, *, n: int, note: str = "", hits: Bool[np.ndarray, " m"] | None = None
) -> Score:
    """Returns a metric with its percentile interval.

    Args:
        metric: values from weights.
        weights: resamples, over the images that the metric reads.
        n: images that the figure rests on.
        note: what was left out of the figure.
        hits: right or wrong per image, for metrics that average these. If every resample gives the same value (all
            right, all wrong, or one image a stratum), the percentile interval has no width; the exact interval of
            the pooled count stands in for it, if it holds the value. Without `hits` no interval is given then.
    """
    value = float(metric(np.ones((1, weights.shape[1])))[0])
    if np.isnan(value):
        return Score.undefined(note or "not defined on these images", n=n)
    resampled = metric(weights)
    resampled = resampled[~np.isnan(resampled)]
    if len(resampled) == 0 or float(np.ptp(resampled)) < NO_SPREAD:
        return without_spread(value, n=n, note=note, hits=hits)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return Score(value=value, low=float(low), high=float(high), n=n, k=None, interval="bootstrap", note=note)


def without_spread(value: float, *, n: int, note: str, hits: Bool[np.ndarray, " m"] | None = None) -> Score:
    """Returns a figure that is the same in every resample; arguments as of `bootstrap_score`."""
    low, high = (1.0, 0.0) if hits is None or len(hits) == 0 else clopper_pearson(int(hits.sum()), len(hits))
    if not low <= value <= high:
        text = _joined(note, "no interval: every resample gives the same value")
        return Score(value=value, low=None, high=None, n=n, k=None, interval="none", note=text)
    text = _joined(note, "exact interval of the pooled count: every resample gives the same value")
    return Score(value=value, low=low, high=high, n=n, k=None, interval="clopper-pearson", note=text)


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def mcnemar_p_value(num_only_first: int, num_only_other: int) -> float:
    """Returns the exact two-sided McNemar test: a fair coin over the images that exactly one system gets right."""
    num_discordant = num_only_first + num_only_other
    if num_discordant == 0:
        return 1.0
    return float(stats.binomtest(num_only_first, num_discordant, 0.5).pvalue)


def require_same_images(first: PredictionTable, other: PredictionTable) -> None:
    """Refuses to compare systems that saw different images.

    Raises:
        DataError: if image ids or true types differ.
    """
    if first.image_ids != other.image_ids:
        odd = sorted(set(first.image_ids) ^ set(other.image_ids))
        raise DataError(
            f"the two runs differ in {len(odd)} images, for instance {odd[0]!r}; compare runs on the same images"
        )
    if [first.types[i] if i >= 0 else i for i in first.gt_type] != [
        other.types[i] if i >= 0 else i for i in other.gt_type
    ]:
        raise DataError("the two runs give the same images different true types; compare runs on the same labels")


def paired_difference(
    first: PredictionTable,
    other: PredictionTable,
    *,
    metric: Callable[[PredictionTable, np.ndarray], np.ndarray],
    num_bootstrap: int,
    seed: int,
) -> PairedDifference:
    """Compares two systems on the same images, resampling both alike.

    Args:
        first: the system to compare with.
        other: the system whose advantage is measured.
        metric: values from a table and weights; the difference is other minus first.
        num_bootstrap: number of resamples.
        seed: root seed.

    Raises:
        DataError: if the images or their true types differ.
    """
    require_same_images(first, other)
    weights = stratified_weights(first.strata, num_bootstrap=num_bootstrap, seed=seed)
    num_only_first = int((first.correct & ~other.correct).sum())
    num_only_other = int((~first.correct & other.correct).sum())
    return PairedDifference(
        difference=bootstrap_score(lambda w: metric(other, w) - metric(first, w), weights, n=len(first)),
        num_only_first_right=num_only_first,
        num_only_other_right=num_only_other,
        mcnemar_p_value=mcnemar_p_value(num_only_first, num_only_other),
    )
