"""Pictures, outlines and anomaly maps go in; pictures with a red outline and maps on a token grid come out."""

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from velm_train.core.errors import DataError
from velm_train.core.records import BoxXYXY, SizeHW
from velm_train.core.shapes import AnomalyMap, ContourPoints, RGBImage

CONTOUR_RGB = (255, 0, 0)


def draw_contour(image: RGBImage, contour: ContourPoints, *, width_px: int) -> RGBImage:
    """Returns a copy of the picture with the closed outline in pure red, as VELM shows it, at the original size.

    Args:
        image: the picture.
        contour: (x, y) in the picture's pixels; the last point is joined to the first; empty draws nothing.
        width_px: line width, at least 1.
    """
    if len(contour) == 0:
        return image.copy()
    picture = Image.fromarray(image)
    points = [(int(x), int(y)) for x, y in contour]
    pen = ImageDraw.Draw(picture)
    if len(points) == 1:
        x, y = points[0]
        pen.rectangle((x - width_px, y - width_px, x + width_px, y + width_px), outline=CONTOUR_RGB, width=width_px)
    else:
        pen.line([*points, *points[:2]], fill=CONTOUR_RGB, width=width_px, joint="curve")
    return np.array(picture)


def _overlaps(
    edges: Float[np.ndarray, " tokens_and_one"], num_cells: int, num_pixels: int
) -> Float[np.ndarray, "tokens cells"]:
    """Returns the share of each token's extent that falls on each map cell; rows sum to 1."""
    cell_edges = np.arange(num_cells + 1) * (num_pixels / num_cells)
    starts = np.maximum(edges[:-1, None], cell_edges[None, :-1])
    stops = np.minimum(edges[1:, None], cell_edges[None, 1:])
    lengths = np.maximum(stops - starts, 0.0)
    shares: np.ndarray = lengths / lengths.sum(axis=1, keepdims=True)
    return shares


def pool_map(
    anomaly_map: AnomalyMap, image_size_hw: SizeHW, box_xyxy: BoxXYXY, grid_hw: SizeHW
) -> Float[np.ndarray, "h_tokens w_tokens"]:
    """Averages the map over each cell of a token grid that covers a box of the image.

    The map is taken as constant over each of its cells, so that the average over a token's area is exact for any
    ratio of the two grids, also where a token is smaller than a cell.

    Args:
        anomaly_map: covers the whole image.
        image_size_hw: of the image, pixels.
        box_xyxy: half-open, original pixels, inside the image: the part that the tokens cover.
        grid_hw: token rows and columns.

    Returns:
        float32 (rows, columns), raw units.

    Raises:
        DataError: if the box does not lie in the image.
    """
    height, width = image_size_hw
    x0, y0, x1, y1 = box_xyxy
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise DataError(f"box {box_xyxy} does not lie in its image of {height}x{width} pixels")
    rows = _overlaps(np.linspace(y0, y1, grid_hw[0] + 1), anomaly_map.shape[0], height)
    columns = _overlaps(np.linspace(x0, x1, grid_hw[1] + 1), anomaly_map.shape[1], width)
    pooled: np.ndarray = rows @ anomaly_map.astype(np.float64) @ columns.T
    return pooled.astype(np.float32)
