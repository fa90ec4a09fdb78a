"""The number of calibration images and alpha go in; what can honestly be promised about false alarms comes out."""

from dataclasses import dataclass

from scipy.stats import beta

from velm_train.core.errors import GateError
from velm_train.core.records import CalibrationKind
from velm_train.gating.conformal import threshold_rank


@dataclass(frozen=True, kw_only=True, slots=True)
class Guarantee:
    """What holds for the false-alarm rate of a gate, all as fractions of normal images.

    Attributes:
        marginal_rate: k / (n + 1) <= alpha, on average over calibration sets and new normals.
        pac_upper_95: with 95 % confidence over the calibration set, the rate of this one threshold is below this.
        worst_case: the bound on the marginal rate that needs nothing but exchangeability.
        text: the same in plain words, for a report.
    """

    marginal_rate: float
    pac_upper_95: float
    worst_case: float
    text: str


def clopper_pearson(num_events: int, num_trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
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


def pac_upper(num_calibration: int, alpha: float, *, confidence: float = 0.95) -> float:
    """Returns the rate below which the frozen threshold's false-alarm rate lies with the given confidence.

    The k-th largest of n independent scores of a continuous distribution leaves above it a share that is distributed
    Beta(k, n + 1 - k) (Vovk 2012, "Conditional validity of inductive conformal predictors", proposition 2a).

    Raises:
        GateError: if alpha cannot be reached with n scores.
    """
    rank = threshold_rank(alpha, num_calibration)
    return float(beta.ppf(confidence, rank, num_calibration + 1 - rank))


def guarantee(num_calibration: int, alpha: float, *, calibration: CalibrationKind) -> Guarantee:
    """Returns what n calibration images promise at a false-alarm rate alpha.

    For "split", the calibration images had no part in fitting and the marginal rate and the PAC bound hold. For
    "leave_one_out", every score comes from a detector that lacks that one image, so the scores are dependent and a new
    image meets a slightly better fitted detector: both figures are then approximations, and what is proven is the
    bound 2 alpha of jackknife+ (Barber, Candes, Ramdas and Tibshirani 2021, theorem 1). It is proven for new images
    that are compared with every leave-one-out detector; it carries over to the one full detector where more normal
    images can only lower a score, as with the nearest-neighbour distance to an unreduced memory bank.

    Args:
        num_calibration: n, at least 1.
        alpha: in [1 / (n + 1), 1).
        calibration: how the scores were made.

    Raises:
        GateError: if alpha cannot be reached with n scores.
    """
    rank = threshold_rank(alpha, num_calibration)
    marginal = rank / (num_calibration + 1)
    upper = pac_upper(num_calibration, alpha)
    common = (
        f"Calibrated on {num_calibration} normal images: on average {marginal:.2%} of normal images like them are "
        f"flagged (asked for: at most {alpha:.2%}). With 95 % confidence this one threshold flags fewer than "
        f"{upper:.2%} of them."
    )
    assumption = "This holds as long as new normal images come from the same process as the calibration images."
    if calibration == "split":
        return Guarantee(marginal_rate=marginal, pac_upper_95=upper, worst_case=alpha, text=f"{common} {assumption}")
    worst = min(1.0, 2 * alpha)
    caveat = (
        f"The calibration scores are leave-one-out, so both figures are close approximations; what is proven for "
        f"leave-one-out scores (jackknife+) is at most {worst:.2%}."
    )
    return Guarantee(
        marginal_rate=marginal, pac_upper_95=upper, worst_case=worst, text=f"{common} {caveat} {assumption}"
    )
