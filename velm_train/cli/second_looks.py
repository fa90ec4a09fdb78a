"""Test images and the tuned model in; the cells that the look-twice adapter looked at in each of them out."""

import math
from collections.abc import Sequence

from velm_train.cli.build_engine import make_device
from velm_train.cli.instruct import Material
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.collation.collate import stack_views
from velm_train.core.records import View
from velm_train.core.report_facts import LookCell, SecondLook
from velm_train.models.look_twice.reading import ViewCell, chosen_cells

NO_ADAPTER = "the run has no look-twice adapter"
NOT_TRACEABLE = "second-look tokens of this form are made anew and cannot be traced to cells of the picture"


def second_looks(
    shop: Workshop, material: Material, taught: Taught, image_ids: Sequence[str]
) -> tuple[tuple[SecondLook, ...], str]:
    """Returns where the adapter looked in the strongest region of each image, or nothing and the reason.

    Args:
        shop: says on which device.
        material: questions about the images.
        taught: the tuned model with its features.
        image_ids: flagged test images.
    """
    adapter = taught.model.look_twice
    if adapter is None:
        return (), NO_ADAPTER
    device = make_device(shop.config)
    adapter.to(device)
    looks = []
    for image_id in image_ids:
        view = looked_at(material.questions[image_id][0][0].views)
        cells = chosen_cells(adapter, stack_views([taught.features(view)]).to(device))
        if cells is None:
            return (), NOT_TRACEABLE
        looks.append(
            SecondLook(
                image_id=image_id,
                view_box_xyxy=view.box_xyxy,
                cells=tuple(_in_pixels(cell, view) for cell in cells),
            )
        )
    return tuple(looks), ""


def looked_at(views: Sequence[View]) -> View:
    """Returns the view of a question that shows its region closest: the crop, or else the last view of the image."""
    shown = [view for view in views if view.kind != "reference"]
    return next((view for view in shown if view.kind == "crop"), shown[-1])


def _in_pixels(cell: ViewCell, view: View) -> LookCell:
    """Returns a cell in original pixels, grown to whole ones."""
    x0, y0, x1, y1, share = cell
    left, top = view.box_xyxy[:2]
    height, width = view.size_hw
    start_x, start_y = min(math.floor(x0 * width), width - 1), min(math.floor(y0 * height), height - 1)
    stop_x, stop_y = max(math.ceil(x1 * width), start_x + 1), max(math.ceil(y1 * height), start_y + 1)
    return LookCell(box_xyxy=(left + start_x, top + start_y, left + stop_x, top + stop_y), share=share)
