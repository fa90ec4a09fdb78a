"""Anomaly maps and ground-truth masks go in; how well the maps find the place of a defect comes out, with intervals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from velm_train.core.errors import DataError
from velm_train.core.scores import LocalisationScores, Score
from velm_train.metrics.intervals import Values, Weights, bootstrap_score, stratified_weights

PUBLISHED_LIMIT = 0.3
"""False-positive rate up to which the published AUPRO is integrated (Bergmann et al. 2021, section 5.2)."""

NUM_EDGES = 2048
"""Largest number of values that maps are told apart by, give or take one."""

NO_PIXELS = "needs defective images with a mask, and pixels outside of it"

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelCounts:
    """How the pixels of n images of one category spread over E ranges of the map's value, lowest range first.

    Attributes:
        normal: pixels outside of every defect.
        defective: pixels inside one.
        overlap: the same, each counted as its share of its region, so that a region adds up to 1.
        num_regions: connected regions of each image's mask, 8 neighbours.
    """

    normal: Float[np.ndarray, "n E"]
    defective: Float[np.ndarray, "n E"]
    overlap: Float[np.ndarray, "n E"]
    num_regions: Int[np.ndarray, " n"]

    @property
    def usable(self) -> bool:
        """True if there are both defect pixels and others."""
        return bool(self.num_regions.any() and self.normal.any())


def value_edges(anomaly_maps: Sequence[Float[np.ndarray, "_ _"]]) -> Float[np.ndarray, " E"]:
    """Returns the values at which ranges begin, ascending.

    Half of them are in equal steps, so that the few high values are told apart; half are the values that occur, if
    these are few, or split them into equally many cells, so that the crowd of low ones is.

    Args:
        anomaly_maps: of one category, at the detector's resolution, raw units.
    """
    values = np.concatenate([anomaly_map.ravel() for anomaly_map in anomaly_maps]).astype(np.float64)
    half = NUM_EDGES // 2
    distinct = np.unique(values)
    crowd = distinct if distinct.size <= half else np.quantile(values, np.linspace(0, 1, half))
    return np.unique(np.concatenate([crowd, np.linspace(distinct[0], distinct[-1], half)]))


def count_pixels(
    pairs: Iterable[tuple[Float[np.ndarray, "_ _"], Bool[np.ndarray, "_ _"]]], *, edges: Float[np.ndarray, " E"]
) -> PixelCounts:
    """Counts the pixels of one image after another, so that memory does not grow with their size.

    Args:
        pairs: map and mask at the same size, one pair an image; all False for a normal image.
        edges: of `value_edges`.

    Raises:
        DataError: if there is no image, or a map and its mask differ in size.
    """
    normal, defective, overlap, num_regions = [], [], [], []
    for anomaly_map, gt_mask in pairs:
        if anomaly_map.shape != gt_mask.shape:
            raise DataError(f"a map of {anomaly_map.shape} and a mask of {gt_mask.shape}; they must be of one size")
        labels, found = ndimage.label(gt_mask, structure=_EIGHT_NEIGHBOURS)
        sizes = np.bincount(labels.ravel(), minlength=found + 1).astype(np.float64)
        shares = np.concatenate([[0.0], 1 / sizes[1:]])
        ranges = np.searchsorted(edges, anomaly_map.ravel(), side="right") - 1
        ranges = np.clip(ranges, 0, edges.size - 1)  # interpolation rounds
        inside = gt_mask.ravel()
        normal.append(np.bincount(ranges[~inside], minlength=edges.size).astype(np.float32))
        defective.append(np.bincount(ranges[inside], minlength=edges.size).astype(np.float32))
        weights = shares[labels.ravel()[inside]]
        overlap.append(np.bincount(ranges[inside], weights=weights, minlength=edges.size).astype(np.float32))
        num_regions.append(int(found))
    if not num_regions:
        raise DataError("localisation was asked for without an image; give one map and mask at least")
    return PixelCounts(
        normal=np.stack(normal),
        defective=np.stack(defective),
        overlap=np.stack(overlap),
        num_regions=np.array(num_regions, dtype=np.int64),
    )


def pixel_auroc_values(counts: PixelCounts, weights: Weights) -> Values:
    """Returns in each resample the chance that a defect pixel outranks another one, ties half; NaN without either."""
    x, y = (_rates(weights @ part) for part in (counts.normal, counts.defective))
    return np.asarray(np.trapezoid(y, x, axis=1))


def aupro_values(counts: PixelCounts, weights: Weights, *, limit: float) -> Values:
    """Returns in each resample the area under the per-region overlap up to `limit`, divided by it.

    The per-region overlap at a threshold is the mean over regions of the share of their pixels at or above it, so that
    a small defect counts as much as a large one; the false-positive rate is the share of all other pixels at or above
    it (Bergmann et al. 2021, "The MVTec Anomaly Detection Dataset", IJCV 129, section 5.2).

    Args:
        counts: of one category.
        weights: how often each image counts.
        limit: largest false-positive rate, in (0, 1].
    """
    x, y = (_rates(weights @ part) for part in (counts.normal, counts.overlap))
    start, end = x[:, :-1], np.minimum(x[:, 1:], limit)
    width = np.maximum(end - start, 0.0)
    step = np.where(x[:, 1:] > start, x[:, 1:] - start, 1.0)
    at_end = y[:, :-1] + (y[:, 1:] - y[:, :-1]) * width / step  # the piece that crosses the limit is cut
    return np.asarray((width * (y[:, :-1] + at_end) / 2).sum(axis=1) / limit)


def _rates(amounts: Float[np.ndarray, "R E"]) -> Float[np.ndarray, "R E+1"]:
    """Returns the share at or above each edge, highest edge first and nothing before it; NaN where all is nothing."""
    summed = np.cumsum(amounts[:, ::-1], axis=1, dtype=np.float64)
    total = summed[:, -1:]
    shares = np.divide(summed, total, out=np.full_like(summed, np.nan), where=total > 0)
    return np.concatenate([np.zeros((len(amounts), 1)), shares], axis=1)


def localisation_scores(
    counts: Mapping[str, PixelCounts],
    *,
    strata: Mapping[str, Int[np.ndarray, " n"]],
    note: str,
    num_bootstrap: int,
    seed: int,
) -> LocalisationScores:
    """Returns pixel AUROC and AUPRO up to PUBLISHED_LIMIT, means over categories, images resampled.

    Maps of two categories come from two detectors and are never ranked against each other. Categories without defect
    masks are left out, and the note says so.

    Args:
        counts: category -> pixels of its images.
        strata: category -> one number for each image's type; a resample keeps how many there are of each.
        note: what was left out before, or "".
        num_bootstrap: number of resamples.
        seed: root seed.
    """
    usable = [name for name, one in counts.items() if one.usable]
    if not usable:
        return LocalisationScores(pixel_auroc=Score.undefined(NO_PIXELS), aupro=Score.undefined(NO_PIXELS))
    dropped = sorted(set(counts) - set(usable))
    notes = [note, f"without {', '.join(dropped)}: no defect masks" if dropped else ""]
    words = "; ".join(one for one in notes if one)
    offsets = np.concatenate([[0], np.cumsum([len(strata[name]) for name in usable])])
    types = [np.unique(strata[name], return_inverse=True)[1] for name in usable]
    starts = np.concatenate([[0], np.cumsum([one.max() + 1 for one in types])])
    numbers = np.concatenate([one + start for one, start in zip(types, starts[:-1], strict=True)])
    weights = stratified_weights(numbers, num_bootstrap=num_bootstrap, seed=seed)

    def parts(drawn: np.ndarray) -> list[tuple[PixelCounts, np.ndarray]]:
        return [(counts[name], drawn[:, a:b]) for name, a, b in zip(usable, offsets[:-1], offsets[1:], strict=True)]

    def auroc(drawn: Weights) -> Values:
        return np.asarray(np.mean([pixel_auroc_values(one, w) for one, w in parts(drawn)], axis=0))

    def aupro(drawn: Weights) -> Values:
        return np.asarray(np.mean([aupro_values(one, w, limit=PUBLISHED_LIMIT) for one, w in parts(drawn)], axis=0))

    n = int(offsets[-1])
    return LocalisationScores(
        pixel_auroc=bootstrap_score(auroc, weights, n=n, note=words),
        aupro=bootstrap_score(aupro, weights, n=n, note=words),
    )
