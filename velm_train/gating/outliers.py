"""Out-of-sample scores of images that are taken for normal go in; those that look like no normal image come out.

A defect among the normals raises the threshold and hides defects like it. Conformal p-values cannot find it: inside one
set they are the ranks 1/n, 2/n, ..., n/n whatever the scores are. So a tail is fitted to the bulk, and what lies far
beyond it is named. Nothing is left out on its own: dropping high scores would void the guarantee.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from velm_train.core.errors import GateError
from velm_train.gating.conformal import Scores

MIN_SCORES = 8
"""With fewer scores than this no tail can be fitted and nothing is named."""

TRUSTED_FRACTION = 0.75
"""Share of the upper half that the tail is fitted to; the rest, an eighth of all images, may be defects."""

FALSE_NAMING_RATE = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlier:
    """One score that the bulk does not explain.

    Attributes:
        index: place among the scores given.
        p_value: chance that a normal image scores as high, by the tail fitted to the bulk.
    """

    index: int
    anomaly_score: float
    p_value: float


def find_outliers(scores: Scores) -> tuple[Outlier, ...]:
    """Returns the scores that look like outliers of their own set, highest first.

    Excesses over the median are taken for exponential, a heavier tail than that of most detectors' scores. The scale is
    estimated from the lowest 75 % of the r of them (censored maximum likelihood: 2 r scale' / scale is chi-squared with
    2 r degrees of freedom), so that P(excess > x) = (1 + x / (r scale'))^-r exactly, for a score of its own. Benjamini
    and Hochberg (1995) at 5 %: in a set of normal images alone, the chance that any is named is at most about 5 %.

    Args:
        scores: raw units, higher is more anomalous, out-of-sample.

    Raises:
        GateError: if a score is not finite.
    """
    if not bool(np.isfinite(scores).all()):
        raise GateError("outliers cannot be looked for among scores that are not finite; mend the detector")
    if scores.size < MIN_SCORES:
        return ()
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    chances = tail_p_values(scores.astype(np.float64)[order])
    limits = FALSE_NAMING_RATE * np.arange(1, scores.size + 1) / scores.size
    below = np.flatnonzero(chances <= limits)
    num_named = 0 if below.size == 0 else int(below[-1]) + 1
    return tuple(
        Outlier(index=int(order[i]), anomaly_score=float(scores[order[i]]), p_value=float(chances[i]))
        for i in range(num_named)
    )


def tail_p_values(descending: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns the chance of each score under the fitted tail; 1 at the median and below.

    Args:
        descending: at least MIN_SCORES scores, highest first.
    """
    excesses = np.maximum(descending - np.median(descending), 0.0)
    upper = excesses[: descending.size // 2][::-1]
    num_trusted = int(np.ceil(TRUSTED_FRACTION * upper.size))
    censored = (upper.size - num_trusted) * upper[num_trusted - 1]
    scale = (upper[:num_trusted].sum() + censored) / num_trusted
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        chances = 0.5 * (1 + excesses / scale / num_trusted) ** -float(num_trusted)
    return np.where(excesses > 0, chances, 1.0)
