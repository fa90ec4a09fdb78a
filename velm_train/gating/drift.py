"""Scores of new images and calibration scores go in; whether their distribution has moved comes out."""

import numpy as np
from jaxtyping import Float
from scipy.stats import ks_2samp

from velm_train.core.errors import GateError
from velm_train.core.gate_card import DriftReport


def detect_drift(
    new_scores: Float[np.ndarray, " m"], calibration: Float[np.ndarray, " n"], *, level: float = 0.01
) -> DriftReport:
    """Compares new scores with the calibration scores by the two-sample Kolmogorov-Smirnov test.

    Defects move the distribution too: a report says that the images are no longer like the calibration images, not
    why. It means most on a line where defects are rare, or on the images the gate let pass.

    Args:
        new_scores: raw anomaly scores of new images, at least 1.
        calibration: raw anomaly scores the gate was calibrated on, at least 1.
        level: rate of false drift reports on unchanged scores, in (0, 1).

    Raises:
        GateError: if either side is empty or the level is outside (0, 1).
    """
    if new_scores.size == 0 or calibration.size == 0:
        raise GateError(
            f"drift needs scores on both sides, got {new_scores.size} new and {calibration.size} calibration scores"
        )
    if not 0 < level < 1:
        raise GateError(f"drift level is {level}; it must lie between 0 and 1, such as 0.01")
    result = ks_2samp(new_scores, calibration)
    return DriftReport(
        statistic=float(result.statistic),
        p_value=float(result.pvalue),
        num_new=int(new_scores.size),
        level=level,
        drifted=bool(result.pvalue <= level),
    )
