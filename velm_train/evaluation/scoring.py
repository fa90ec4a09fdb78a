"""Option log-likelihoods of several option orders and regions go in; one named type for the image comes out.

    order --log-likelihood of each option, mean over orders--> region
    region --the one whose "no defect" is least likely--> image --argmax--> type

Options are matched by what they stand for (a defect type, "no defect", "none of these"), never by their place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from velm_train.core.errors import DataError
from velm_train.core.records import NO_DEFECT_OPTION, NONE_OF_THESE_OPTION, NORMAL_DEFECT_TYPE, Option


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionScore:
    """One option of the closed list and how likely it is.

    Attributes:
        answer: the text of the option; of the first order if orders word it differently.
        defect_type: what it stands for; "good" for "no defect", None for "none of these".
        log_likelihood: nats, mean over orders.
    """

    answer: str
    defect_type: str | None
    log_likelihood: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionScores:
    """The options of one region, sorted by answer.

    Attributes:
        peak_score: highest anomaly-map value inside the region, raw detector units.
    """

    options: tuple[OptionScore, ...]
    peak_score: float

    @property
    def best(self) -> OptionScore:
        """The likeliest option; of equals the first by answer."""
        return max(self.options, key=lambda option: option.log_likelihood)

    @property
    def no_defect_probability(self) -> float:
        """Softmax probability of "no defect" among the options; 0 if it is not on the list."""
        values = np.array([option.log_likelihood for option in self.options], dtype=np.float64)
        shares = np.exp(values - values.max())
        is_normal = np.array([option.defect_type == NORMAL_DEFECT_TYPE for option in self.options])
        return float(shares[is_normal].sum() / shares.sum())

    def log_likelihoods(self) -> dict[str, float]:
        """Returns answer -> log-likelihood, sorted by answer."""
        return {option.answer: option.log_likelihood for option in self.options}


def average_orders(
    orders: Sequence[Sequence[Option]], log_likelihoods: Sequence[Sequence[float]]
) -> tuple[OptionScore, ...]:
    """Returns the mean log-likelihood of every option over its orders, sorted by answer.

    Args:
        orders: the options of each order, as they were shown.
        log_likelihoods: the same shape, nats.

    Raises:
        DataError: if there is no order, or two orders do not offer the same options.
    """
    if not orders:
        raise DataError("a region has no question to score; build at least one option order")
    identities = [option.defect_type for option in orders[0]]
    columns: dict[str | None, list[float]] = {identity: [] for identity in identities}
    for options, values in zip(orders, log_likelihoods, strict=True):
        found = {option.defect_type for option in options}
        if found != set(identities) or len(options) != len(columns):
            raise DataError(f"option orders differ: {sorted(map(str, found))} and {sorted(map(str, columns))}")
        for option, value in zip(options, values, strict=True):
            columns[option.defect_type].append(float(value))
    scores = [
        OptionScore(
            answer=_answer(option), defect_type=option.defect_type, log_likelihood=_mean(columns[option.defect_type])
        )
        for option in orders[0]
    ]
    return tuple(sorted(scores, key=lambda score: score.answer))


def region_naming_the_image(regions: Sequence[RegionScores]) -> RegionScores:
    """Returns the region that is least likely to be no defect; of equals the one with the highest peak, then the first.

    One region suffices to make a part defective, so the image is named after the surest one.
    """
    assert regions, "an image that was asked about has a region"
    return min(regions, key=lambda region: (region.no_defect_probability, -region.peak_score))


def _answer(option: Option) -> str:
    """The special options carry the same text in every row, whatever a template calls them."""
    if option.defect_type is None:
        return NONE_OF_THESE_OPTION
    return NO_DEFECT_OPTION if option.defect_type == NORMAL_DEFECT_TYPE else option.answer


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(np.array(values, dtype=np.float64)))
