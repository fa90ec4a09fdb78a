"""Pictures of any size in, evidence of two frozen towers on one token grid out.

view ─► cnn_px square ─► EfficientNet-Lite0 ─► stride 32 (320), 16 (112), 8 (40) ─► pixel unshuffle ─► 320 + 448 + 640
     └► vit_px square ─► DINOv2 ViT-S/14 ────► final (384), blocks (384 each) ───► 2 x 2 mean ──────► 384 ; levels
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn import functional as F

from velm_train.backbones.preprocess import resize_batch
from velm_train.backbones.protocol import Backbone
from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ConfigError
from velm_train.core.hashing import sha256_json
from velm_train.models.look_twice.adapter import LookTwiceForm

CNN_STRIDE = 32
"""Pixels of the CNN's input per fine token."""

VIT_STRIDE = 28
"""Pixels of the ViT's input per fine token: two patches of 14."""

SOURCE_DIMS = (320, 448, 640, 384)
"""Widths of stride 32, unshuffled stride 16, unshuffled stride 8, and the ViT's final block."""

LEVEL_DIM = 384
"""Width of every level."""

LEVEL_LAYERS = ("block3", "block6", "block9", "block12")
"""Depths that may serve as levels."""

DEFAULT_LEVELS: Mapping[LookTwiceForm, tuple[str, ...]] = {"improved": ("block6", "block12"), "published": LEVEL_LAYERS}
"""Depths that the adapter reads if nobody says which; the published form has four."""

ENCODING_VERSION = 1
"""Raised when the same weights and pictures give other evidence."""

_CNN_LAYERS = ("stride32", "stride16", "stride8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Towers:
    """The two frozen encoders."""

    cnn: Backbone
    vit: Backbone


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionSettings:
    """What shapes the visual tokens.

    Attributes:
        cnn_px: side of the CNN's square input, a multiple of 32.
        vit_px: side of the ViT's square input, a multiple of 28; cnn_px / 32 == vit_px / 28.
        level_layers: ViT depths that the look-twice adapter reads, shallow first.
        first_look_grid: first-look tokens along a side; divides the fine grid.
        projector_dim: width between the projector's two layers.
        half_precision: True to multiply matrices in bfloat16; evidence is float32 in any case.
    """

    cnn_px: int = 192
    vit_px: int = 168
    level_layers: tuple[str, ...] = LEVEL_LAYERS
    first_look_grid: int = 3
    projector_dim: int = 768
    half_precision: bool = False

    def __post_init__(self) -> None:
        """Checks that both towers give the same grid and that the levels exist.

        Raises:
            ConfigError: if not.
        """
        cnn_grid, cnn_rest = divmod(self.cnn_px, CNN_STRIDE)
        vit_grid, vit_rest = divmod(self.vit_px, VIT_STRIDE)
        if cnn_rest or vit_rest or cnn_grid != vit_grid or cnn_grid < 1:
            raise ConfigError(
                f"cnn_px is {self.cnn_px} and vit_px {self.vit_px}; they must be 32 g and 28 g for one whole g, "
                "such as 192 and 168 (6 x 6 tokens) or 256 and 224 (8 x 8)"
            )
        unknown = [layer for layer in self.level_layers if layer not in LEVEL_LAYERS]
        if unknown or not self.level_layers:
            raise ConfigError(f"level_layers is {self.level_layers}; allowed: one or more of {', '.join(LEVEL_LAYERS)}")

    @property
    def token_grid(self) -> int:
        """Fine tokens along a side, g."""
        return self.cnn_px // CNN_STRIDE


class TwoTowers:
    """Runs both encoders without gradients; they are loaded at the first picture, not before.

    It is not a module, so that no checkpoint, optimiser or `train()` call reaches the frozen encoders.
    """

    def __init__(
        self, *, load: Callable[[torch.device], Towers], weights_identity: str, settings: VisionSettings
    ) -> None:
        """Remembers how to load.

        Args:
            load: gives the frozen encoders on a device; called once per device.
            weights_identity: hash of what `load` will give, known without loading.
            settings: input sizes and levels.
        """
        self._load = load
        self._towers: dict[torch.device, Towers] = {}
        self.settings = settings
        self.identity = sha256_json(
            {
                "version": ENCODING_VERSION,
                "weights": weights_identity,
                "cnn_px": settings.cnn_px,
                "vit_px": settings.vit_px,
                "level_layers": settings.level_layers,
                "half_precision": settings.half_precision,
            }
        )

    @property
    def loaded(self) -> bool:
        """True once a picture has been encoded."""
        return bool(self._towers)

    @torch.no_grad()
    def encode(self, views: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, device: torch.device) -> VisionEvidence:
        """Returns evidence with one tile per view, in float32 on `device`; `map_scores` are zero.

        Args:
            views: at least one RGB picture, each squashed to the towers' squares.
            device: where to compute.
        """
        assert views, "at least one view is needed"
        towers = self._towers_on(device)
        settings, grid = self.settings, self.settings.token_grid
        cnn_input = resize_batch(list(views), (settings.cnn_px, settings.cnn_px)).to(device)
        vit_input = resize_batch(list(views), (settings.vit_px, settings.vit_px)).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.half_precision):
            cnn_maps = _float(towers.cnn.features(cnn_input, layers=list(_CNN_LAYERS)))
            vit_maps = _float(towers.vit.features(vit_input, layers=[*settings.level_layers, "final"]))
        final = torch.cat(
            [
                cnn_maps["stride32"],
                F.pixel_unshuffle(cnn_maps["stride16"], 2),
                F.pixel_unshuffle(cnn_maps["stride8"], 4),
                F.avg_pool2d(vit_maps["final"], 2),
            ],
            dim=1,
        )
        levels = [row_major(F.avg_pool2d(vit_maps[layer], 2)) for layer in settings.level_layers]
        num_views, num_tokens = len(views), grid * grid
        return VisionEvidence(
            final=row_major(final),
            levels=torch.stack(levels),
            grid_hw=torch.full((num_views, 2), grid, dtype=torch.long, device=device),
            view_index=torch.arange(num_views, device=device),
            is_global=torch.ones(num_views, dtype=torch.bool, device=device),
            valid=torch.ones(num_views, num_tokens, dtype=torch.bool, device=device),
            map_scores=torch.zeros(num_views, num_tokens, device=device),
        )

    def _towers_on(self, device: torch.device) -> Towers:
        if device not in self._towers:
            self._towers = {device: self._load(device)}
        return self._towers[device]


def _float(maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {layer: values.float() for layer, values in maps.items()}


def row_major(feature_map: Float[torch.Tensor, "B C h w"]) -> Float[torch.Tensor, "B N C"]:
    """Returns a feature map as tokens, row by row."""
    return feature_map.flatten(2).transpose(1, 2).contiguous()
