"""Pictures, outlines and anomaly maps go in; pictures with a red outline and maps on a token grid come out."""

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from velm_train.core.errors import DataError
from velm_train.core.records import BoxXYXY, SizeHW
from velm_train.core.shapes import AnomalyMap, ContourPoints, RGBImage

CONTOUR_RGB = (255, 0, 0)

WHOLE_BOX = (0.0, 0.0, 1.0, 1.0)
"""The tile that shows all of its box."""


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
    edges: Float[np.ndarray, " tokens_and_one"], *, num_cells: int, num_pixels: int, within: tuple[int, int]
) -> Float[np.ndarray, "tokens cells"]:
    """Returns how the part of each token's extent that lies `within` is shared out among the map's cells.

    Rows sum to 1, those of tokens that lie wholly outside to 0.
    """
    cell_edges = np.arange(num_cells + 1) * (num_pixels / num_cells)
    starts = np.maximum(np.maximum(edges[:-1, None], within[0]), cell_edges[None, :-1])
    stops = np.minimum(np.minimum(edges[1:, None], within[1]), cell_edges[None, 1:])
    lengths = np.maximum(stops - starts, 0.0)
    totals = lengths.sum(axis=1, keepdims=True)
    shares: np.ndarray = lengths / np.where(totals > 0, totals, 1.0)
    return shares


def pool_map(
    anomaly_map: AnomalyMap,
    image_size_hw: SizeHW,
    box_xyxy: BoxXYXY,
    grid_hw: SizeHW,
    *,
    tile_xyxy: tuple[float, float, float, float] = WHOLE_BOX,
) -> Float[np.ndarray, "h_tokens w_tokens"]:
    """Averages the map over each cell of a token grid that covers a box of the image, or a tile of the box.

    The map is taken as constant over each of its cells, so that the average over a token's area is exact for any
    ratio of the two grids, also where a token is smaller than a cell.

    Args:
        anomaly_map: covers the whole image.
        image_size_hw: of the image, pixels.
        box_xyxy: half-open, original pixels, inside the image.
        grid_hw: token rows and columns.
        tile_xyxy: the part of the box that the tokens cover, as fractions of its width and height. A tile may reach
            beyond the box, into padding, where nothing of the image is shown.

    Returns:
        float32 (rows, columns), raw units. A token that is partly padding has the average of its other part, one that
        is padding alone has 0.

    Raises:
        DataError: if the box does not lie in the image.
    """
    height, width = image_size_hw
    x0, y0, x1, y1 = box_xyxy
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise DataError(f"box {box_xyxy} does not lie in its image of {height}x{width} pixels")
    left, right = (x0 + fraction * (x1 - x0) for fraction in (tile_xyxy[0], tile_xyxy[2]))
    top, bottom = (y0 + fraction * (y1 - y0) for fraction in (tile_xyxy[1], tile_xyxy[3]))
    rows = _overlaps(
        np.linspace(top, bottom, grid_hw[0] + 1), num_cells=anomaly_map.shape[0], num_pixels=height, within=(y0, y1)
    )
    columns = _overlaps(
        np.linspace(left, right, grid_hw[1] + 1), num_cells=anomaly_map.shape[1], num_pixels=width, within=(x0, x1)
    )
    pooled: np.ndarray = rows @ anomaly_map.astype(np.float64) @ columns.T
    return pooled.astype(np.float32)
