"""Losses against hand-computed values."""

import math

import pytest
import torch

from velm_train.training.losses import (
    balanced_pos_weight,
    class_balanced_cross_entropy,
    image_loss_sum,
    mask_loss_sum,
)


def test_image_loss_weights_anomalous_views_and_skips_nan():
    logits = torch.tensor([0.0, 2.0, -1.0])
    labels = torch.tensor([1.0, 0.0, float("nan")])
    expected = 3.0 * math.log(2) + math.log(1 + math.exp(2.0))
    assert image_loss_sum(logits, labels, pos_weight=3.0).item() == pytest.approx(expected, rel=1e-6)


def test_image_loss_without_scored_views_is_zero_and_differentiable():
    logits = torch.zeros(2, requires_grad=True)
    loss = image_loss_sum(logits, torch.full((2,), float("nan")), pos_weight=1.0)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(2))


def test_pos_weight_gives_both_kinds_the_same_total():
    assert balanced_pos_weight(30, 10) == 3.0
    assert balanced_pos_weight(0, 10) == balanced_pos_weight(5, 0) == 1.0


def test_class_balance_is_the_mean_of_class_means():
    logits = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [9.0, 9.0, 0.0]])
    targets = torch.tensor([0, 0, 1, 2])
    keep = torch.tensor([True, True, True, False])
    first = (math.log(3) + math.log(1 + 2 * math.exp(-2))) / 2
    second = math.log(1 + 2 * math.exp(-1))
    loss = class_balanced_cross_entropy(logits, targets, keep)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_class_balance_of_nothing_is_zero():
    loss = class_balanced_cross_entropy(torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([False, False]))
    assert loss.item() == 0.0


def _mask_loss_written_out(scores, targets):
    """One view, number by number."""
    focal = [
        -t * (1 - p) ** 2 * math.log(p) - (1 - t) * p**2 * math.log(1 - p) for p, t in zip(scores, targets, strict=True)
    ]
    overlap = sum(p * t for p, t in zip(scores, targets, strict=True))
    return sum(focal) / len(focal) + 1 - (2 * overlap + 1) / (sum(scores) + sum(targets) + 1)


def _mask_loss(scores, targets, *, valid=None, view_index=None):
    valid = torch.ones(scores.shape, dtype=torch.bool) if valid is None else valid
    view_index = torch.arange(len(scores)) if view_index is None else torch.tensor(view_index)
    return mask_loss_sum(scores, targets, valid=valid, view_index=view_index)


def test_mask_loss_equals_focal_and_dice_written_out_over_all_tiles_of_a_view():
    scores = torch.tensor([[0.9, 0.2, 0.3, 0.6], [0.5, 0.1, 0.8, 0.7], [0.4, 0.05, 0.95, 0.5]])
    targets = torch.tensor([[1.0, 0.0, 0.25, 0.5], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    valid = torch.tensor([[True] * 4, [True, True, True, False], [True] * 4])
    loss = _mask_loss(scores, targets, valid=valid, view_index=[0, 0, 1])
    first = _mask_loss_written_out([0.9, 0.2, 0.3, 0.6, 0.5, 0.1, 0.8], [1.0, 0.0, 0.25, 0.5, 0.0, 0.0, 1.0])
    second = _mask_loss_written_out([0.4, 0.05, 0.95, 0.5], [0.0] * 4)
    assert loss.item() == pytest.approx(first + second, rel=1e-5)


def test_views_without_an_outline_and_padding_do_not_count():
    nan = float("nan")
    scores = torch.tensor([[0.9, 0.2], [0.5, 0.1]], requires_grad=True)
    loss = _mask_loss(scores, torch.tensor([[nan, nan], [1.0, nan]]), valid=torch.tensor([[True, True], [True, False]]))
    assert loss.item() == pytest.approx(_mask_loss_written_out([0.5], [1.0]), rel=1e-5)
    loss.backward()
    assert scores.grad[0].tolist() == [0.0, 0.0]
    assert scores.grad[1, 0] < 0
    assert scores.grad[1, 1] == 0
    assert _mask_loss(scores, torch.full((2, 2), nan)).item() == 0.0


def test_right_scores_have_a_small_mask_loss_and_wrong_ones_stay_finite():
    targets = torch.tensor([[1.0, 0.0, 0.0]])
    right = _mask_loss(torch.tensor([[1.0, 0.0, 0.0]]), targets)
    scores = torch.tensor([[0.0, 1.0, 1.0]], requires_grad=True)
    wrong = _mask_loss(scores, targets)
    assert right < 1e-4
    assert wrong > 10
    wrong.backward()
    assert scores.grad.isfinite().all()


def test_mask_loss_moves_token_scores_to_the_outline():
    targets = torch.zeros(2, 12)
    targets[0, 3:5] = 1.0
    logits = torch.zeros(2, 12, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        _mask_loss(logits.sigmoid(), targets).backward()
        optimiser.step()
    scores = logits.sigmoid().detach()
    assert scores[0, 3:5].min() > 0.8
    assert scores[targets == 0].max() < 0.2
