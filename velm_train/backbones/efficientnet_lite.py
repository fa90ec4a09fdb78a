"""RGB batches in, feature maps of four strides out: EfficientNet-Lite0, frozen.

EfficientNet (Tan and Le 2019, arXiv 1905.11946, table 1) in its Lite form: no squeeze-and-excitation, ReLU6
for swish, stem and head of fixed width. Padding is TensorFlow's SAME, as the weights were trained with.

    (B, 3, H, W) -> stem /2 -> 16 blocks: stride4 (24) -> stride8 (40) -> stride16 (112) -> stride32 (320) -> logits
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import nn

from velm_train.backbones.protocol import FeatureMaps, LayerInfo, require_layers, require_multiple
from velm_train.core.hashing import sha256_file, sha256_json

_NAME = "efficientnet_lite0"
_STAGES = (
    # blocks, kernel, stride of the first, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM_CHANNELS, _HEAD_CHANNELS, _NUM_CLASSES = 32, 1280, 1000
_PREPROCESSING = "(255 * rgb - 127) / 128"
_SIZE_MULTIPLE = 32

LAYERS: Mapping[str, LayerInfo] = {
    "stride4": LayerInfo(channels=24, stride=4),
    "stride8": LayerInfo(channels=40, stride=8),
    "stride16": LayerInfo(channels=112, stride=16),
    "stride32": LayerInfo(channels=320, stride=32),
}
_LAST_BLOCK = {"stride4": 2, "stride8": 4, "stride16": 10, "stride32": 15}
"""The block, counted from 0, whose output a layer is: the deepest of its stride."""


class SameConv(nn.Conv2d):
    """A convolution without bias whose output is the input divided by the stride, rounded up.

    TensorFlow's SAME puts the odd pixel of padding at the bottom and the right.
    """

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int, stride: int = 1, groups: int = 1) -> None:
        """Makes a square kernel."""
        super().__init__(channels_in, channels_out, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: Float[torch.Tensor, "B C H W"]) -> Float[torch.Tensor, "B D h w"]:
        """Pads as the size demands, then convolves."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = (
            max((-(-side // stride) - 1) * stride + kernel - side, 0)  # -(-a // b) rounds up
            for side in x.shape[-2:]
        )
        return super().forward(F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project by a 1x1 convolution, add if the shape is kept."""

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int, stride: int, expansion: int) -> None:
        """Names its parts as the published weights do."""
        super().__init__()
        channels = channels_in * expansion
        self.expands = expansion != 1
        if self.expands:
            self.expand_conv = SameConv(channels_in, channels, kernel=1)
            self.bn0 = _norm(channels)
        self.depthwise_conv = SameConv(channels, channels, kernel=kernel, stride=stride, groups=channels)
        self.bn1 = _norm(channels)
        self.project_conv = SameConv(channels, channels_out, kernel=1)
        self.bn2 = _norm(channels_out)
        self.adds_input = stride == 1 and channels_in == channels_out

    def forward(self, x: Float[torch.Tensor, "B C H W"]) -> Float[torch.Tensor, "B D h w"]:
        """Maps C channels to D."""
        expanded = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        filtered = F.relu6(self.bn1(self.depthwise_conv(expanded)))
        projected: torch.Tensor = self.bn2(self.project_conv(filtered))
        return x + projected if self.adds_input else projected


class EfficientNetLite0(nn.Module):
    """The whole classifier; its weights load strictly from the asset `efficientnet_lite0`."""

    def __init__(self) -> None:
        """Builds the 16 blocks with random weights."""
        super().__init__()
        self.conv_stem = SameConv(3, _STEM_CHANNELS, kernel=3, stride=2)
        self.bn0 = _norm(_STEM_CHANNELS)
        blocks: list[nn.Module] = []
        channels_in = _STEM_CHANNELS
        for num_blocks, kernel, stride, expansion, channels in _STAGES:
            for index in range(num_blocks):
                first_stride = stride if index == 0 else 1
                blocks.append(
                    InvertedResidual(channels_in, channels, kernel=kernel, stride=first_stride, expansion=expansion)
                )
                channels_in = channels
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = SameConv(channels_in, _HEAD_CHANNELS, kernel=1)
        self.bn1 = _norm(_HEAD_CHANNELS)
        self.fc = nn.Linear(_HEAD_CHANNELS, _NUM_CLASSES)

    def stages(self, images: Float[torch.Tensor, "B 3 H W"], *, last_block: int) -> list[torch.Tensor]:
        """Returns the output of blocks 0..last_block for RGB in 0..1."""
        x = F.relu6(self.bn0(self.conv_stem((images * 255 - 127) / 128)))
        outputs = []
        for block in self.blocks[: last_block + 1]:
            x = block(x)
            outputs.append(x)
        return outputs

    def forward(self, images: Float[torch.Tensor, "B 3 H W"]) -> Float[torch.Tensor, "B 1000"]:
        """Returns the logits of the ImageNet-1k classes for RGB in 0..1."""
        x = self.stages(images, last_block=len(self.blocks) - 1)[-1]
        x = F.relu6(self.bn1(self.conv_head(x)))
        logits: torch.Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class EfficientNetLiteBackbone:
    """EfficientNet-Lite0 as a `Backbone`; heights and widths are multiples of 32."""

    layers = LAYERS

    def __init__(self, weights: Path, *, device: torch.device) -> None:
        """Loads the weights strictly and freezes them.

        Args:
            weights: model.safetensors of the asset `efficientnet_lite0`.
            device: where the features are computed.
        """
        self.identity = sha256_json({"model": _NAME, "weights": sha256_file(weights), "preprocessing": _PREPROCESSING})
        self.model = EfficientNetLite0()
        self.model.load_state_dict(load_file(weights), strict=True)
        self.model.eval().requires_grad_(requires_grad=False).to(device)

    @torch.no_grad()
    def features(self, images: Float[torch.Tensor, "B 3 H W"], *, layers: Sequence[str]) -> FeatureMaps:
        """Returns the maps of the layers asked for; blocks behind the deepest of them are not computed.

        Raises:
            ConfigError: if a layer is unknown.
            DataError: if height or width is no multiple of 32.
        """
        require_layers(layers, self.layers, backbone=_NAME)
        require_multiple(images.shape[-2], images.shape[-1], of=_SIZE_MULTIPLE, backbone=_NAME)
        outputs = self.model.stages(
            images.to(self.model.fc.weight.device, torch.float32),
            last_block=max(_LAST_BLOCK[name] for name in layers),
        )
        return {name: outputs[_LAST_BLOCK[name]] for name in layers}

    @torch.no_grad()
    def logits(self, images: Float[torch.Tensor, "B 3 H W"]) -> Float[torch.Tensor, "B 1000"]:
        """Returns the ImageNet-1k logits, which show whether weights and preprocessing fit each other."""
        logits: torch.Tensor = self.model(images.to(self.model.fc.weight.device, torch.float32))
        return logits
