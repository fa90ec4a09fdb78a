"""Validation answers go in; one temperature, and predictions with calibrated log-probabilities, come out.

Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2). It changes how
sure an answer is, never which answer it is. Fit it on training folds or validation rows, never on the test rows.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from velm_train.core.answer_scores import Temperature
from velm_train.core.errors import DataError
from velm_train.core.records import Prediction

LOG_TEMPERATURE_BOUNDS = (math.log(0.02), math.log(50.0))
BOUND_MARGIN = 0.01
"""A logarithm this near to a bound lies at it."""


def fit_temperature(log_likelihoods: Sequence[dict[str, float]], gold_answers: Sequence[str]) -> Temperature:
    """Returns the temperature under which the right answers are likeliest.

    There may be no best one. With every answer right the likelihood rises without end as answers become surer: it is
    then 1. With answers that say nothing it rises as they become less sure: it is then the upper end of the search.

    Args:
        log_likelihoods: option answer -> log-likelihood of each validation row.
        gold_answers: right answer of each row.

    Raises:
        DataError: if there are no rows, or a right answer is not among a row's options.
    """
    if not log_likelihoods:
        raise DataError("temperature scaling got 0 rows, 1 or more are needed; report uncalibrated answers instead")
    for row, answer in zip(log_likelihoods, gold_answers, strict=True):
        if answer not in row:
            raise DataError(f"right answer {answer!r} is not among the options {sorted(row)}; leave such rows out")

    widest = max(len(row) for row in log_likelihoods)
    table = np.array([[*row.values(), *[-np.inf] * (widest - len(row))] for row in log_likelihoods])
    gold = np.array([row[answer] for row, answer in zip(log_likelihoods, gold_answers, strict=True)])

    def mean_nll(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        return float(np.mean(logsumexp(table / temperature, axis=1) - gold / temperature))

    found = minimize_scalar(mean_nll, bounds=LOG_TEMPERATURE_BOUNDS, method="bounded", options={"xatol": 1e-6})
    log_temperature, note = float(found.x), ""
    lowest, highest = LOG_TEMPERATURE_BOUNDS
    if log_temperature < lowest + BOUND_MARGIN:
        log_temperature, note = 0.0, f"{len(log_likelihoods)} rows, all right, fix no temperature"
    elif log_temperature > highest - BOUND_MARGIN:
        log_temperature, note = highest, "the model's confidence says nothing about being right"
    return Temperature(
        value=math.exp(log_temperature),
        num_rows=len(log_likelihoods),
        nll_before=mean_nll(0.0),
        nll_after=mean_nll(log_temperature),
        note=note,
    )


def apply_temperature(predictions: Sequence[Prediction], temperature: Temperature) -> list[Prediction]:
    """Returns the rows with log-probabilities that sum to one; rows that were never asked stay as they are."""
    return [
        replace(row, option_log_likelihoods=_scaled(row.option_log_likelihoods, temperature.value))
        for row in predictions
    ]


def _scaled(log_likelihoods: dict[str, float], temperature: float) -> dict[str, float]:
    if not log_likelihoods:
        return {}
    total = float(logsumexp(np.array(list(log_likelihoods.values())) / temperature))
    return {answer: value / temperature - total for answer, value in log_likelihoods.items()}
