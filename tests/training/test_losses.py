"""Losses against hand-computed values."""

import math

import pytest
import torch

from velm_train.training.losses import balanced_pos_weight, class_balanced_cross_entropy, image_loss_sum


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
