"""The stand-in for torchvision's operators lets it be imported and computes what the operator means."""

import subprocess
import sys

import pytest
import torch

from velm_train.core.torchvision_shim import _nms, install_torchvision_shim


def slow_nms(boxes: list[list[float]], scores: list[float], iou_threshold: float) -> list[int]:
    """Greedy suppression written out: the best box stays, whatever overlaps a kept one too much goes."""
    kept: list[int] = []
    for candidate in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        x0, y0, x1, y1 = boxes[candidate]
        overlaps = False
        for other in kept:
            u0, v0, u1, v1 = boxes[other]
            common = max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))
            union = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - common
            overlaps = overlaps or common / union > iou_threshold
        if not overlaps:
            kept.append(candidate)
    return kept


@pytest.mark.parametrize("iou_threshold", [0.0, 0.2, 0.4, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_suppression_equals_the_slow_version(seed: int, iou_threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(40, 2, generator=generator) * 40
    boxes = torch.cat([corners, corners + 5 + torch.rand(40, 2, generator=generator) * 40], dim=1)
    scores = torch.rand(40, generator=generator)
    expected = slow_nms(boxes.tolist(), scores.tolist(), iou_threshold)
    assert _nms(boxes, scores, iou_threshold).tolist() == expected
    assert iou_threshold == 1.0 or len(expected) < 40


def test_overlap_equal_to_the_threshold_is_kept() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 2.0, 1.0]])  # 1 of 2 units in common
    assert _nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert _nms(boxes, torch.tensor([0.9, 0.8]), 0.49).tolist() == [0]


def test_no_boxes_leave_none() -> None:
    assert _nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_second_installation_changes_nothing() -> None:
    install_torchvision_shim()
    install_torchvision_shim()


def test_torchvision_can_be_imported_after_the_package() -> None:
    program = (
        "import velm_train, torch, torchvision\n"
        "boxes = torch.tensor([[0., 0., 4., 2.], [0., 0., 4., 2.], [9., 9., 12., 10.]])\n"
        "print(torch.ops.torchvision.nms(boxes, torch.tensor([.1, .9, .5]), 0.5).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[1, 2]"), done.stderr
