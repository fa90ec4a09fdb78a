"""The same figure of several runs goes in; mean, standard deviation and their number come out."""

import statistics
from collections.abc import Mapping, Sequence

from scipy.stats import t

from velm_train.core.comparison import Spread
from velm_train.core.scores import Score


def spread(values: Sequence[float]) -> Spread:
    """Returns the mean and the sample standard deviation (n - 1), which one value does not have.

    Args:
        values: one figure a run, at least one.
    """
    assert values, "a spread needs a value"
    std = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), std=std, n=len(values))


def spreads(runs: Sequence[Mapping[str, Score]]) -> dict[str, Spread]:
    """Returns the spread of every figure over the runs that have a value for it.

    Args:
        runs: figure name -> score, one mapping a run.
    """
    names = dict.fromkeys(name for scores in runs for name in scores)
    columns = {
        name: [value for scores in runs if name in scores and (value := scores[name].value) is not None]
        for name in names
    }
    return {name: spread(values) for name, values in columns.items() if values}


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Returns the ends of the 95 % interval of a mean over seeds (Student's t), or None for fewer than two values.

    With few seeds it is wide, as it has to be: two seeds say little about the others.
    """
    if len(values) < 2:
        return None
    reach = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    middle = statistics.fmean(values)
    return middle - reach, middle + reach
