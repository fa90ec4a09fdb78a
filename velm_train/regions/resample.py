"""An anomaly map of any resolution goes in; the same map on the image's pixels comes out."""

import numpy as np
from jaxtyping import Float

from velm_train.core.records import SizeHW
from velm_train.core.shapes import AnomalyMap


def _lower_cells(num_cells: int, num_pixels: int) -> tuple[np.ndarray, Float[np.ndarray, " pixels"]]:
    """Returns, for every pixel centre, the cell centre at or before it and the weight of the next one."""
    positions = (np.arange(num_pixels) + 0.5) * num_cells / num_pixels - 0.5
    positions = np.clip(positions, 0, num_cells - 1)
    lower = np.floor(positions).astype(np.intp)
    return lower, (positions - lower).astype(np.float32)


def upsample_map(anomaly_map: AnomalyMap, size_hw: SizeHW) -> Float[np.ndarray, "H W"]:
    """Resamples a map bilinearly to the image's pixels; the centre of a cell falls on the centre of its pixels.

    Args:
        anomaly_map: covers the whole image.
        size_hw: of the image, pixels.

    Returns:
        float32 (H, W).
    """
    values: np.ndarray = anomaly_map.astype(np.float32)
    num_rows, num_columns = values.shape
    top, weight_y = _lower_cells(num_rows, size_hw[0])
    left, weight_x = _lower_cells(num_columns, size_hw[1])
    bottom, right = np.minimum(top + 1, num_rows - 1), np.minimum(left + 1, num_columns - 1)
    rows: np.ndarray = values[top] + (values[bottom] - values[top]) * weight_y[:, None]  # (H, w)
    resampled: np.ndarray = rows[:, left] + (rows[:, right] - rows[:, left]) * weight_x  # (H, W)
    return resampled
