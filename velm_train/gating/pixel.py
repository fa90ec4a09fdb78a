"""Out-of-sample anomaly maps of normal images go in; the pixel threshold comes out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from velm_train.core.errors import GateError
from velm_train.gating.conformal import largest_count


def pixel_threshold(anomaly_maps: Sequence[Float[np.ndarray, "_ _"]], *, pixel_alpha: float) -> float:
    """Returns the smallest map value that at most a share `pixel_alpha` of all normal map cells exceed.

    This is a rate per pixel, not per image: cells of one image are far from independent, so nothing follows for the
    share of normal images with a pixel above the threshold, which is larger. The image decision has its own threshold.

    Args:
        anomaly_maps: of normal images that had no part in what they were scored against; they may differ in
            shape; every cell weighs the same.
        pixel_alpha: share of normal cells that may exceed the threshold, in (0, 1).

    Raises:
        GateError: if there is no map, or pixel_alpha is outside (0, 1) or too small for the number of cells.
    """
    if not anomaly_maps:
        raise GateError("the pixel threshold got 0 anomaly maps; it needs those of the calibration images")
    if not 0 < pixel_alpha < 1:
        raise GateError(f"gate.pixel_alpha is {pixel_alpha}; it must lie between 0 and 1, such as 0.005")
    values = np.concatenate([np.asarray(anomaly_map, dtype=np.float32).ravel() for anomaly_map in anomaly_maps])
    num_above = largest_count(pixel_alpha, values.size)
    if num_above == 0:
        raise GateError(
            f"gate.pixel_alpha={pixel_alpha:g} is below 1/{values.size}, one cell of the calibration maps; raise it to "
            f"at least {1 / values.size:.3g}"
        )
    rank = values.size - num_above - 1
    return float(np.partition(values, rank)[rank])
