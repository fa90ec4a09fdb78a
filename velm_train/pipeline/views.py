"""The recipe of a view in; its pixels out, and what the anomaly map and the masks say about each of its tokens.

image, map, masks ─► appearance ─┬─► contour ─► cut ─► pixels ─► (towers) ─► features
                                 └─► averages over the tokens of every tile of the box ◄── grids ┘
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from velm_train.collation.collate import ViewFeatures
from velm_train.core.appearance import AS_IT_IS
from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.images import cut_out, read_gt_masks, read_rgb
from velm_train.core.records import Detection, ImageRecord, SizeHW, View
from velm_train.core.shapes import AnomalyMap, RGBImage
from velm_train.gating.gate import CalibratedGate
from velm_train.regions.overlay import WHOLE_BOX, draw_contour, pool_map


def view_key(view: View) -> str:
    """Returns a hash of everything that shapes a view's pixels."""
    shape: list[object] = [view.sha256, list(view.box_xyxy), view.contour.tolist()]
    return sha256_json(shape if view.appearance == AS_IT_IS else [*shape, view.appearance])


def render_view(view: View, *, contour_width_px: int) -> RGBImage:
    """Returns the picture the model is shown: the image, its contour if the view has one, the part in the box."""
    image = view.appearance.picture(read_rgb(view.image_path))
    if len(view.contour):
        image = draw_contour(image, view.contour, width_px=contour_width_px)
    return cut_out(image, view.box_xyxy)


@dataclass(frozen=True, kw_only=True, slots=True)
class MapSource:
    """Where a view's map scores come from.

    Attributes:
        detection: of the image the view is cut from.
        gate: of its category; its pixel threshold is the unit.
        gt_record: the image's record if its ground-truth masks may be read: for the control row "oracle", whose every
            figure is marked so, and for mask supervision of training images. None in every other run.
    """

    detection: Detection
    gate: CalibratedGate
    gt_record: ImageRecord | None = None

    def __post_init__(self) -> None:
        """Refuses a map that knows the image.

        The language model learns how far to trust the map from training images, so their maps must be as good as
        those of new images and no better.

        Raises:
            DataError: if the image had a part in what it was scored against.
        """
        if not self.detection.out_of_sample:
            raise DataError(
                f"{self.detection.image_id}: the detector was fitted on this image, so its map looks more certain than "
                "that of a new one; score it by the detector's out_of_sample()"
            )

    def scores(self, view: View, features: ViewFeatures) -> Float[torch.Tensor, "T N"]:
        """Returns the anomaly map averaged over each visual token, 1 at the pixel threshold, 0 beyond a tile's grid.

        Args:
            view: what the features are of.
            features: say where the tiles lie.
        """
        pooled = _pooled(self.detection.anomaly_map, self.detection.image_size_hw, view, features)
        return torch.from_numpy((pooled / self.gate.pixel_threshold).astype(np.float32))

    def gt_scores(self, view: View, features: ViewFeatures) -> Float[torch.Tensor, "T N"] | None:
        """Returns the share of each visual token's area that is defect.

        None if the masks may not be read; NaN everywhere for a defect that nobody has outlined.
        """
        record = self.gt_record
        if record is None:
            return None
        if record.gt_label and not record.gt_mask_paths:
            return torch.full(features.valid.shape, torch.nan)
        gt_mask = read_gt_masks(record.gt_mask_paths, size_hw=record.size_hw)
        return torch.from_numpy(_pooled(gt_mask.astype(np.float32), record.size_hw, view, features))


def _pooled(values: AnomalyMap, image_size_hw: SizeHW, view: View, features: ViewFeatures) -> Float[np.ndarray, "T N"]:
    """Averages values that lie on an image over the tokens of each tile of a view, row-major, zeros behind them."""
    shown, shown_hw = view.appearance.plane(values), view.appearance.size_hw(image_size_hw)
    pooled = np.zeros(features.valid.shape, dtype=np.float32)
    boxes = None if features.tile_xyxy is None else features.tile_xyxy.tolist()
    for tile, (rows, columns) in enumerate(features.grid_hw.tolist()):
        tile_xyxy = WHOLE_BOX if boxes is None else tuple(boxes[tile])
        means = pool_map(shown, shown_hw, view.box_xyxy, (rows, columns), tile_xyxy=tile_xyxy)
        pooled[tile, : rows * columns] = means.reshape(-1)
    return pooled
