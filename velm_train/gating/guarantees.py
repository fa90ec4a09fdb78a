"""The number of calibration parts and alpha go in; what can honestly be promised about false alarms comes out."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import beta, betabinom

from velm_train.core.errors import GateError
from velm_train.core.gate_card import Reach
from velm_train.core.records import CalibrationKind
from velm_train.gating.conformal import largest_count, num_needed, threshold_rank

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """How the calibration scores were made.

    Attributes:
        kind: "split", "leave_one_out" or "k_fold".
        num_folds: 2 or more for "k_fold", else 0.
        transductive: True if the detector looks at the test batch, so that no guarantee holds.
    """

    kind: CalibrationKind
    num_folds: int
    transductive: bool

    def __post_init__(self) -> None:
        """Checks that folds and kind agree."""
        if self.num_folds < 2 and self.kind == "k_fold":
            raise GateError(
                f"the gate's calibration scores are of {self.num_folds} folds; set detector.num_folds to 2 or more"
            )
        if self.num_folds != 0 and self.kind != "k_fold":
            raise GateError(f"calibration {self.kind!r} has no folds, but num_folds is {self.num_folds}; give 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Guarantee:
    """What holds for the false-alarm rate of a gate, all as fractions of normal parts.

    Attributes:
        marginal_rate: k / (n + 1) <= alpha, on average over calibration sets and new normals.
        pac_upper_95: with 95 % confidence over the calibration set, the rate of this one threshold is below this.
        worst_case: the bound on the marginal rate that needs nothing but exchangeability; see `worst_case`.
        text: the same in plain words, for a report.
    """

    marginal_rate: float
    pac_upper_95: float
    worst_case: float
    text: str


def clopper_pearson(num_events: int, num_trials: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns the exact two-sided interval of a binomial rate (Clopper and Pearson 1934).

    Args:
        num_events: such as normal images flagged; 0 <= num_events <= num_trials.
        num_trials: such as normal images seen; at least 1.
        confidence: in (0, 1).

    Raises:
        GateError: if the counts are impossible.
    """
    if num_trials < 1 or not 0 <= num_events <= num_trials:
        raise GateError(
            f"cannot give an interval for {num_events} events in {num_trials} trials; there must be at least 1 trial "
            f"and between 0 and that many events"
        )
    tail = (1 - confidence) / 2
    lower = 0.0 if num_events == 0 else float(beta.ppf(tail, num_events, num_trials - num_events + 1))
    upper = 1.0 if num_events == num_trials else float(beta.ppf(1 - tail, num_events + 1, num_trials - num_events))
    return lower, upper


def pac_upper(num_calibration: int, alpha: float, *, confidence: float = CONFIDENCE) -> float:
    """Returns the rate below which the frozen threshold's false-alarm rate lies with the given confidence.

    The k-th largest of n independent scores of a continuous distribution leaves above it a share that is distributed
    Beta(k, n + 1 - k) (Vovk 2012, "Conditional validity of inductive conformal predictors", proposition 2a). With ties
    the share is smaller.

    Raises:
        GateError: if alpha cannot be reached with n scores.
    """
    rank = threshold_rank(alpha, num_calibration)
    return float(beta.ppf(confidence, rank, num_calibration + 1 - rank))


def reach(num_calibration: int, alpha: float) -> Reach:
    """Returns whether n calibration parts reach alpha, and how many would.

    The strictest threshold, the highest of n scores, has a rate of at most alpha with confidence 1 - (1 - alpha)^n.
    """
    reachable = largest_count(alpha, num_calibration + 1) > 0
    return Reach(
        alpha=alpha,
        reachable=reachable,
        num_needed=num_needed(alpha),
        num_needed_95=math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-alpha)),
        pac_upper_95=pac_upper(num_calibration, alpha) if reachable else None,
    )


def false_alarm_counts(num_calibration: int, alpha: float, *, num_tested: int) -> Float[np.ndarray, " counts"]:
    """Returns the probability of 0, 1, ..., m false alarms among m new normal parts, the threshold being random too.

    Given the threshold the count is binomial with a rate drawn from Beta(k, n + 1 - k), so it is beta-binomial: wider
    than a binomial interval around alpha, which forgets that the calibration parts are few as well.

    Raises:
        GateError: if alpha cannot be reached with n scores.
    """
    rank = threshold_rank(alpha, num_calibration)
    counts = np.arange(num_tested + 1)
    return np.asarray(betabinom.pmf(counts, num_tested, rank, num_calibration + 1 - rank), dtype=np.float64)


def central_range(probabilities: Float[np.ndarray, " counts"]) -> tuple[int, int]:
    """Returns the lowest and the highest count that leave at most 2.5 % of the probability on either side."""
    cumulative = np.cumsum(probabilities)
    tail = (1 - CONFIDENCE) / 2
    low = int(np.searchsorted(cumulative, tail, side="right"))
    high = int(np.searchsorted(cumulative, 1 - tail, side="left"))
    return low, min(high, len(probabilities) - 1)


def worst_case(num_calibration: int, alpha: float, *, scheme: Scheme) -> float:
    """Returns the bound on the marginal false-alarm rate that needs nothing but exchangeability.

    * split: alpha.
    * leave_one_out: 2 alpha (jackknife+; Barber, Candes, Ramdas and Tibshirani 2021, theorem 1).
    * k_fold: 2 alpha + min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1)) (CV+; the same paper, theorem 4). Its second
      term needs folds of equal size; the first holds for any, because it is twice a weighted mean of the p-values of
      the folds, each with a weight of its size plus one (Vovk and Wang 2020, "Combining p-values via averaging").

    The last two are proven for a new image that is compared, fold by fold, with the detector that lacks the fold. The
    gate compares the one detector fitted on everything, for which nothing can be proven in general: a detector may
    change altogether with one more image. They carry over where it changes little. Where more normal images can only
    lower a score, as with the nearest-neighbour distance to an unreduced memory bank, even alpha itself holds: had
    the new image been fitted as well, every calibration score would be at most as high, and the p-value with it.
    """
    if scheme.kind == "split":
        return alpha
    if scheme.kind == "leave_one_out":
        return min(1.0, 2 * alpha)
    folds = min(scheme.num_folds, num_calibration)
    excess = 2 * (folds - 1) / (num_calibration + folds)
    if num_calibration % folds == 0:
        excess = min(excess, (1 - folds / num_calibration) / (folds + 1))
    return min(1.0, 2 * alpha + excess)


def guarantee(num_calibration: int, alpha: float, *, scheme: Scheme, num_images: int) -> Guarantee:
    """Returns what n calibration parts promise at a false-alarm rate alpha.

    For "split" the calibration images had no part in fitting, and marginal rate and PAC bound hold. For the other
    kinds the scores are dependent and a new image meets a slightly better fitted detector: both are approximations.

    Args:
        num_calibration: n physical parts, at least 1.
        alpha: in [1 / (n + 1), 1).
        scheme: how the scores were made; not transductive.
        num_images: calibration images; more than n if parts have several views.

    Raises:
        GateError: if alpha cannot be reached with n scores.
    """
    assert not scheme.transductive
    rank = threshold_rank(alpha, num_calibration)
    marginal = rank / (num_calibration + 1)
    upper = pac_upper(num_calibration, alpha)
    worst = worst_case(num_calibration, alpha, scheme=scheme)
    several = num_images > num_calibration
    what = "parts" if several else "images"
    source = f"{num_calibration} normal parts in {num_images} images" if several else f"{num_calibration} normal images"
    text = (
        f"Calibrated on {source}: on average {marginal:.2%} of normal {what} like them are flagged (asked for: at most "
        f"{alpha:.2%}). With 95 % confidence this one threshold flags fewer than {upper:.2%} of them. "
        f"{_caveat(scheme, worst=worst)}This holds as long as new normal {what} come from the same process as the "
        f"calibration {what}{', seen in as many views' if several else ''}."
    )
    if several:
        text += (
            " A part counts once, by its most anomalous view, and is flagged if any view is; a single image is flagged "
            "less often."
        )
    return Guarantee(marginal_rate=marginal, pac_upper_95=upper, worst_case=worst, text=text)


def _caveat(scheme: Scheme, *, worst: float) -> str:
    if scheme.kind == "split":
        return ""
    if scheme.kind == "leave_one_out":
        how, theorem, lacking = "leave-one-out", "jackknife+", "one part"
    else:
        how, theorem, lacking = f"{scheme.num_folds}-fold", "CV+", "one fold"
    return (
        f"The calibration scores are {how}, so both figures are close approximations for a detector that changes "
        f"little without {lacking}; what is proven for such scores ({theorem}) is at most {worst:.2%}. "
    )
