"""The same figure of several runs goes in; mean, standard deviation and their number come out."""

import statistics
from collections.abc import Mapping, Sequence

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
