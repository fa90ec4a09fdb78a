"""Option probabilities and right options go in; Brier score and negative log-likelihood come out.

Both are proper: no confidence other than the true one makes them better on average, so that unlike the calibration
error they cannot be won by saying the same for every image.
"""

import numpy as np

from velm_train.core.answer_scores import ConfidenceScores
from velm_train.core.scores import Score
from velm_train.metrics.answer_table import NO_GOLD, AnswerTable
from velm_train.metrics.calibration import calibration_scores, reliability_bins, with_confidence
from velm_train.metrics.intervals import Values, Weights, bootstrap_score, weighted_mean


def brier_values(table: AnswerTable, weights: Weights, *, temperature: float = 1.0) -> Values:
    """Returns the mean squared distance of the probabilities from the truth, 0..2 (Brier 1950).

    A right option that was not offered counts as one of probability 0.
    """
    probabilities = np.exp(table.log_probabilities(temperature=temperature))
    truth = np.zeros_like(probabilities)
    offered = table.gold != NO_GOLD
    truth[offered, table.gold[offered]] = 1.0
    distance = ((probabilities - truth) ** 2).sum(axis=1) + ~offered
    return weighted_mean(distance, weights * table.asked)


def nll_values(table: AnswerTable, weights: Weights, *, temperature: float = 1.0) -> Values:
    """Returns the mean negative log-probability of the right option, nats; images that were not offered it left out."""
    offered = table.asked & (table.gold != NO_GOLD)
    loss = np.zeros(len(table))
    log_probabilities = table.log_probabilities(temperature=temperature)
    loss[offered] = -log_probabilities[offered, table.gold[offered]]
    return weighted_mean(loss, weights * offered)


def confidence_scores(table: AnswerTable, weights: Weights, *, temperature: float = 1.0) -> ConfidenceScores:
    """Returns how the confidence of answers agrees with their being right.

    Args:
        table: the images.
        weights: bootstrap resamples of the same images.
        temperature: that log-likelihoods are divided by.
    """
    base = with_confidence(table.base, table.confidence(temperature=temperature))
    scores = calibration_scores(base, weights)
    num_asked = int(table.asked.sum())
    if not num_asked:
        missing = Score.undefined("no flagged image has option likelihoods")
        return ConfidenceScores(
            expected_calibration_error=missing, aurc=missing, brier=missing, nll=missing, reliability=()
        )
    num_offered = int((table.asked & (table.gold != NO_GOLD)).sum())
    left_out = num_asked - num_offered
    return ConfidenceScores(
        expected_calibration_error=scores.expected_calibration_error,
        aurc=scores.aurc,
        brier=bootstrap_score(lambda w: brier_values(table, w, temperature=temperature), weights, n=num_asked),
        nll=bootstrap_score(
            lambda w: nll_values(table, w, temperature=temperature),
            weights,
            n=num_offered,
            note=f"without {left_out} images whose right option was not offered" if left_out else "",
        ),
        reliability=reliability_bins(base),
    )
