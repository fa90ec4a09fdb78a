"""The letters and array aliases used in signatures; checked at run time under pytest only.

B batch   T sequence   V vocabulary   D language-model width   C channels   P patches
N visual tokens   K selected tokens   H W pixels   h w grid or map   L levels   I images   R regions
"""

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

RGBImage = UInt8[np.ndarray, "H W 3"]
"""Picture in RGB order, 0..255."""

AnomalyMap = Float[np.ndarray, "h w"]
"""Raw anomaly values, higher is more anomalous."""

BoolMap = Bool[np.ndarray, "h w"]
"""A yes/no value per map cell or pixel."""

ContourPoints = Int[np.ndarray, "points 2"]
"""Outline points (x, y) in original pixels."""
