"""Patch features of one image go in; the patches that show the object, not the background, come out.

The first principal component of the features tells object from background where there is such a contrast (Oquab et al.
2023, arXiv 2304.07193; Damm et al. 2025, arXiv 2405.14529). The authors of AnomalyDINO cut it at 10, in units of one
model, and choose by hand for which products. Here Otsu's threshold cuts it, which has no unit, and `separable` chooses.
They keep the side that fills the centre; here it is the side that is rarer along the border.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, binary_erosion, label
from skimage.filters import threshold_otsu
from torch import Tensor

from velm_train.core.records import SizeHW
from velm_train.core.shapes import BoolMap

_MAX_BORDER_SHARE = 0.25
_MAX_AREA_SHARE = 0.8
_MIN_LARGEST_SHARE = 0.5
_MIN_CONTRAST = 3.0
_SQUARE = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreground:
    """What the first principal component says about one image.

    Attributes:
        patches: the object's patches, dilated and closed; never none.
        separable: whether they form one object apart from the image's border, as those of a texture never do.
    """

    patches: Bool[Tensor, " P"]
    separable: bool


def find_foreground(values: Float[Tensor, "P C"], grid_hw: SizeHW) -> Foreground:
    """Cuts one image's patches into object and background.

    Args:
        values: features of the patches, row by row, on any device.
        grid_hw: patch rows and columns.
    """
    component = _first_component(values).reshape(grid_hw)
    everything = torch.ones(len(values), dtype=torch.bool, device=values.device)
    if np.ptp(component) == 0:
        return Foreground(patches=everything, separable=False)
    above = component > threshold_otsu(component)
    above = component > (component[above].mean() + component[~above].mean()) / 2  # whatever the component's sign
    raw = above if _border_share(above) <= _border_share(~above) else ~above
    object_map = _closed(binary_dilation(raw, _SQUARE))
    patches = torch.from_numpy(object_map.ravel()).to(values.device)
    return Foreground(patches=patches, separable=_separable(raw, component))


def _first_component(values: Float[Tensor, "P C"]) -> Float[np.ndarray, " P"]:
    """Returns each patch's place along the direction in which the image's features vary most."""
    centred = (values - values.mean(dim=0)).double()
    _, directions = torch.linalg.eigh(centred.T @ centred)
    component: np.ndarray = (centred @ directions[:, -1]).cpu().numpy()
    return component


def _border_share(cells: BoolMap) -> float:
    border = np.ones_like(cells)
    border[1:-1, 1:-1] = False
    return float(cells[border].mean())


def _closed(cells: BoolMap) -> BoolMap:
    """Fills gaps; what lies outside the image takes nothing away from an object that touches its border."""
    closed: BoolMap = binary_erosion(binary_dilation(cells, _SQUARE), _SQUARE, border_value=True)
    return closed


def _separable(cells: BoolMap, component: Float[np.ndarray, "h w"]) -> bool:
    numbers, num_parts = label(cells, structure=_SQUARE)
    largest = np.bincount(numbers.ravel(), minlength=num_parts + 1)[1:].max() / cells.sum()
    spread = np.sqrt((component[cells].var() + component[~cells].var()) / 2) + np.finfo(np.float64).eps
    contrast = abs(component[cells].mean() - component[~cells].mean()) / spread
    return bool(
        _border_share(cells) <= _MAX_BORDER_SHARE
        and cells.mean() <= _MAX_AREA_SHARE
        and largest >= _MIN_LARGEST_SHARE
        and contrast >= _MIN_CONTRAST
    )
