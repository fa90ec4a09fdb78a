"""A trained look-twice adapter and the evidence of one view in; the cells that its second-look tokens come from out."""

import torch

from velm_train.core.batch import VisionEvidence
from velm_train.models.look_twice.adapter import LookTwice, LookTwiceAdapter
from velm_train.models.look_twice.geometry import by_view, token_boxes
from velm_train.models.modes import evaluating

ViewCell = tuple[float, float, float, float, float]
"""x0, y0, x1, y1 in fractions of the view's sides, clipped to it, and the cell's share of the token's weight."""


@torch.no_grad()
def chosen_cells(adapter: LookTwice, evidence: VisionEvidence) -> list[ViewCell] | None:
    """Returns the heaviest cell of every second-look token but the global one, bins row-major.

    Tokens of the improved form are weighted means of the view's own tokens, so that each can be traced to cells.
    Those of the published form are made and projected anew.

    Args:
        adapter: in any mode.
        evidence: of one view, on the adapter's device, in float32.

    Returns:
        None if the tokens of this form cannot be traced.
    """
    if not isinstance(adapter, LookTwiceAdapter):
        return None
    with evaluating(adapter), torch.autocast(device_type=evidence.final.device.type, enabled=False):
        weights = adapter.selector.attention(evidence, adapter.scores(evidence))[0, 1:]  # (bins, V)
    boxes = token_boxes(evidence.grid_hw, num_tokens=evidence.valid.shape[1], tile_xyxy=evidence.tile_xyxy)
    of_view = by_view(boxes, evidence)[0].clamp(0.0, 1.0)  # (V, 4)
    shares, places = weights.max(dim=1)
    rows = zip(of_view[places].tolist(), shares.tolist(), strict=True)
    return [(x0, y0, x1, y1, share) for (x0, y0, x1, y1), share in rows]
