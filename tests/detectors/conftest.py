"""A small real backbone of seeded convolutions, and pictures to show it."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from velm_train.backbones.protocol import LayerInfo


class TinyBackbone(nn.Module):
    """Two strided convolutions with fixed weights."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Conv2d(3, 6, 5, stride=4, padding=2)
        self.second = nn.Conv2d(6, 10, 3, stride=2, padding=1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        self.identity = f"tiny-{seed}"
        self.layers = {"first": LayerInfo(channels=6, stride=4), "second": LayerInfo(channels=10, stride=8)}

    @torch.no_grad()
    def features(self, images: torch.Tensor, *, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        first = torch.tanh(self.first(images))
        maps = {"first": first, "second": 50 * torch.tanh(self.second(first))}
        return {layer: maps[layer] for layer in layers}


@pytest.fixture
def make_backbone() -> Callable[[int], TinyBackbone]:
    return TinyBackbone


@pytest.fixture
def good_images() -> list[np.ndarray]:
    """Six noisy stripes of 48x80 pixels."""
    generator = np.random.default_rng(11)
    stripes = (np.arange(80) // 8 % 2 * 90 + 60)[None, :, None]
    return [np.clip(stripes + generator.normal(0, 12, (48, 80, 3)), 0, 255).astype(np.uint8) for _ in range(6)]


@pytest.fixture
def bad_image(good_images: list[np.ndarray]) -> np.ndarray:
    """The first stripes with a bright red block at columns 56..71, rows 24..39."""
    image = good_images[0].copy()
    image[24:40, 56:72] = (255, 20, 20)
    return image
