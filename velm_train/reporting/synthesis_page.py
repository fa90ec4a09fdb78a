"""Examples of synthetic defects go in; one self-contained HTML page without scripts comes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velm_train.core.artifacts import write_atomic
from velm_train.core.images import cut_out
from velm_train.core.records import BoxXYXY
from velm_train.core.shapes import BoolMap, RGBImage
from velm_train.reporting.figures import jpeg_data_uri, outlined_thumbnail, thumbnail
from velm_train.reporting.pages import render_page

PICTURE_SIDE_PX = 380
"""Longer side of a picture on the page; smaller ones are not enlarged."""

MIN_SHOWN_FRACTION = 0.4
"""Share of the image's width and height that is shown at least, so that the place can be recognised."""

MIN_SHOWN_PX = 240
"""Longer side of the part that is shown at least, so that pictures are not enlarged much."""

_MARGIN = 0.6
"""Surroundings shown on every side of a defect, in lengths of its box."""

MAX_OPEN_CATEGORIES = 3
"""With more categories than this, all but the first are folded away."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DefectExample:
    """One synthetic defect as three pictures of the same part of the image, as data URIs.

    Attributes:
        clean: the good image.
        defect: the same with the defect.
        outlined: the same with the mask's outline.
        shown_wh: width and height of each picture in pixels.
        image: path of the defect image below the data set's root.
        source: image_id of the good image.
        note: side of the split, share of the image that the mask covers.
    """

    clean: str
    defect: str
    outlined: str
    shown_wh: tuple[int, int]
    image: str
    source: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeSection:
    """One type in one category.

    Attributes:
        defect_type: name of the type.
        operators: what made it, in order.
        num_images: images in the data set.
        examples: some of them.
    """

    defect_type: str
    operators: tuple[str, ...]
    num_images: int
    examples: tuple[DefectExample, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CategorySection:
    """One category with the number of its good images."""

    name: str
    num_train_good: int
    num_test_good: int
    types: tuple[TypeSection, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthesisContent:
    """Everything on the page.

    Attributes:
        title: name of the data set.
        notices: sentences that a reader must not miss.
        facts: name -> value.
        categories: in the order shown.
        command: what to run next.
    """

    title: str
    notices: tuple[str, ...]
    facts: Mapping[str, str]
    categories: tuple[CategorySection, ...]
    command: str

    @property
    def num_images(self) -> int:
        """Synthetic images in the data set."""
        return sum(kind.num_images for category in self.categories for kind in category.types)

    def is_open(self, index: int) -> bool:
        """True if the category at this place is shown unfolded."""
        return index == 0 or len(self.categories) <= MAX_OPEN_CATEGORIES


def show_example(
    clean: RGBImage, defect: RGBImage, gt_mask: BoolMap, *, image: str, source: str, side: str
) -> DefectExample:
    """Returns the pictures of one defect: the whole image, or a part of it where the defect is small.

    Args:
        clean: the good image.
        defect: of the same size.
        gt_mask: of the same size; not empty.
        image: path of the defect image below the data set's root.
        source: image_id of the good image.
        side: of the split that the image is for.
    """
    box = _shown_box(gt_mask)
    x0, y0, x1, y1 = box
    before, after = cut_out(clean, box), cut_out(defect, box)
    small = thumbnail(after, max_side_px=PICTURE_SIDE_PX)
    outlined = outlined_thumbnail(after, gt_mask[y0:y1, x0:x1], max_side_px=PICTURE_SIDE_PX)
    return DefectExample(
        clean=jpeg_data_uri(thumbnail(before, max_side_px=PICTURE_SIDE_PX)),
        defect=jpeg_data_uri(small),
        outlined=jpeg_data_uri(outlined),
        shown_wh=(small.shape[1], small.shape[0]),
        image=image,
        source=source,
        note=f"{side} side, mask covers {100 * float(gt_mask.mean()):.2f} % of the image",
    )


def _shown_box(gt_mask: BoolMap) -> BoxXYXY:
    """Returns the part of the image to show: the mask's box with surroundings, in the image's own shape."""
    rows, columns = np.flatnonzero(gt_mask.any(axis=1)), np.flatnonzero(gt_mask.any(axis=0))
    height, width = gt_mask.shape
    lengths = ((rows[-1] + 1 - rows[0]) / height, (columns[-1] + 1 - columns[0]) / width)
    share = min(1.0, max(MIN_SHOWN_FRACTION, MIN_SHOWN_PX / max(height, width), (1 + 2 * _MARGIN) * max(lengths)))
    shown_h, shown_w = round(share * height), round(share * width)
    y0 = int(np.clip((rows[0] + rows[-1] + 1 - shown_h) // 2, 0, height - shown_h))
    x0 = int(np.clip((columns[0] + columns[-1] + 1 - shown_w) // 2, 0, width - shown_w))
    return x0, y0, x0 + shown_w, y0 + shown_h


def render_synthesis_page(content: SynthesisContent) -> str:
    """Returns the page as HTML text."""
    return render_page("synthesis.html.j2", styles=("report.css", "synthesis.css"), names={"content": content})


def write_synthesis_page(content: SynthesisContent, path: Path) -> None:
    """Writes the page atomically.

    Raises:
        ResourceError: if the file cannot be written.
    """
    write_atomic(path, render_synthesis_page(content))
