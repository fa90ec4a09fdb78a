"""Makes a CUDA build of torchvision importable under a CPU-only torch; does nothing anywhere else."""

import importlib.util
import sys

import torch

_KEEP_ALIVE: list[torch.library.Library] = []


def _nms(boxes_xyxy: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression in plain torch; boxes (R, 4), scores (R,), returns kept indices."""
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes_xyxy[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = torch.ones(len(boxes), dtype=torch.bool)
    kept: list[int] = []
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        kept.append(i)
        top_left = torch.maximum(boxes[i, :2], boxes[:, :2])
        bottom_right = torch.minimum(boxes[i, 2:], boxes[:, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        alive &= ~(overlap / (areas[i] + areas - overlap) > iou_threshold)
    return order[torch.tensor(kept, dtype=torch.long)]


def install_torchvision_shim() -> None:
    """Declares the operators that a CUDA-built torchvision registers against before it is imported.

    Without it, importing torchvision under a CPU-only torch fails, and with it transformers, peft and
    Lightning, which import torchvision when they find it installed.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    if torch.version.cuda is not None or torch.version.hip is not None:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    try:
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    except RuntimeError:  # a CPU build of torchvision declared them itself
        return
    library.impl("nms", _nms, "CPU")  # type: ignore[no-untyped-call]
    _KEEP_ALIVE.append(library)
