"""A look-twice adapter or a detector's backbone in, a module that an ONNX graph can be made of out."""

from collections.abc import Sequence

import torch
from torch import nn

from velm_train.backbones.protocol import Backbone
from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ConfigError
from velm_train.models.build import BuiltModel
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.export.onnx_graph import OnnxModule
from velm_train.models.look_twice.adapter import LookTwice
from velm_train.models.look_twice.geometry import TileLayout, promised_layout, tiles_of_views
from velm_train.models.protocol import LookTwiceOutput

LOOK_TWICE_OUTPUTS = ("token_scores", "second_look", "image_logits")
ONNX_SOURCES = ("fused", "learned", "map", "centre")
"""Sources of suspicion that a graph can express; the others are control rows that read hashes or masks."""

_TILE = {0: "tiles", 1: "tokens"}
_TILES_OF_VIEWS = {
    "final": _TILE,
    "levels": {1: "tiles", 2: "tokens"},
    "grid_hw": {0: "tiles"},
    "valid": _TILE,
    "map_scores": _TILE,
    "projected": _TILE,
}
_TILES_OF_ONE_VIEW = _TILES_OF_VIEWS | {"is_global": {0: "tiles"}, "tile_xyxy": {0: "tiles"}}

Inputs = dict[str, torch.Tensor]
"""Input name -> tensor, in the order in which the module takes them."""


class _Look(nn.Module):
    """The adapter as a function of tensors; whatever is known of the tiles is put back together inside."""

    def __init__(self, adapter: LookTwice, *, layout: TileLayout) -> None:
        super().__init__()
        self.adapter = adapter
        self.layout = layout

    def forward(
        self,
        final: torch.Tensor,
        levels: torch.Tensor,
        grid_hw: torch.Tensor,
        valid: torch.Tensor,
        map_scores: torch.Tensor,
        projected: torch.Tensor,
        is_global: torch.Tensor | None = None,
        tile_xyxy: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        num_tiles = final.shape[0]
        single = self.layout == "one_tile_per_view"
        evidence = VisionEvidence(
            final=final,
            levels=levels,
            grid_hw=grid_hw,
            view_index=torch.arange(num_tiles) if single else torch.zeros(num_tiles, dtype=torch.long),
            is_global=torch.ones(num_tiles, dtype=torch.bool) if is_global is None else is_global,
            valid=valid,
            map_scores=map_scores,
            tile_xyxy=tile_xyxy,
        )
        with promised_layout(self.layout):
            said: LookTwiceOutput = self.adapter.look(evidence, projected)
        return said.token_scores, said.second_look, said.image_logits


def tile_layout(model: BuiltModel) -> TileLayout:
    """Returns how a model's views are cut: always whole, or in a number of tiles that depends on their size."""
    whole = isinstance(model, EmbeddedVLM) or model.writer.tap.tile_tokens is None
    return "one_tile_per_view" if whole else "one_view"


def look_twice_module(adapter: LookTwice, *, layout: TileLayout) -> OnnxModule:
    """Returns an adapter as a module with named inputs.

    | layout | inputs | one run looks at |
    |---|---|---|
    | one_tile_per_view | final, levels, grid_hw, valid, map_scores, projected | any number of views |
    | one_view | the same, is_global, tile_xyxy | the tiles of one view |

    Raises:
        ConfigError: if a graph cannot express its source of suspicion or its form.
    """
    settings = adapter.settings
    if settings.source not in ONNX_SOURCES or settings.form != "improved":
        raise ConfigError(
            f"look_twice.source={settings.source}, look_twice.form={settings.form} has no ONNX graph; allowed are "
            f"{', '.join(ONNX_SOURCES)} in form improved; leave export.onnx=false"
        )
    return OnnxModule(
        module=_Look(adapter, layout=layout).eval(),
        outputs=LOOK_TWICE_OUTPUTS,
        dynamic=_TILES_OF_VIEWS if layout == "one_tile_per_view" else _TILES_OF_ONE_VIEW,
    )


@torch.no_grad()
def look_twice_inputs(model: BuiltModel, evidence: VisionEvidence) -> list[Inputs]:
    """Returns what the model's adapter reads of real evidence, one entry a run of the graph.

    Args:
        model: with an adapter, in evaluation mode.
        evidence: of one view or more.
    """
    assert model.look_twice is not None, "a model without adapter has no inputs for one"
    seen: list[tuple[VisionEvidence, torch.Tensor]] = []
    handle = model.look_twice.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs))
    try:
        model.look(evidence)
    finally:
        handle.remove()
    ((read, projected),) = seen
    if tile_layout(model) == "one_tile_per_view":
        return [_named(read, projected, tiles=slice(None))]
    return [_named(read, projected, tiles=tiles) | _place(read, tiles=tiles) for tiles in tiles_of_views(read)]


def _named(evidence: VisionEvidence, projected: torch.Tensor, *, tiles: torch.Tensor | slice) -> Inputs:
    inputs = {
        "final": evidence.final[tiles].float(),
        "levels": evidence.levels[:, tiles].float(),
        "grid_hw": evidence.grid_hw[tiles],
        "valid": evidence.valid[tiles],
        "map_scores": evidence.map_scores[tiles],
        "projected": projected[tiles].float(),
    }
    return {name: value.cpu().contiguous() for name, value in inputs.items()}


def _place(evidence: VisionEvidence, *, tiles: torch.Tensor) -> Inputs:
    assert evidence.tile_xyxy is not None, "tiles that show a part of their view come with their boxes"
    return {"is_global": evidence.is_global[tiles].cpu(), "tile_xyxy": evidence.tile_xyxy[tiles].cpu()}


class _Features(nn.Module):
    """A backbone's layers as a tuple; its network is registered, so that the graph holds its weights."""

    def __init__(self, backbone: Backbone, *, network: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.backbone = backbone
        self.layers = list(layers)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.backbone.features(images, layers=self.layers)
        return tuple(maps[layer] for layer in self.layers)


def backbone_module(backbone: Backbone, *, layers: Sequence[str]) -> OnnxModule:
    """Returns a backbone as a module from `images`, RGB in 0..1, to the maps of some layers; any number of images.

    Args:
        backbone: frozen, on the CPU.
        layers: of it.

    Raises:
        ConfigError: if the backbone's network is not at hand.
    """
    network = getattr(backbone, "model", None)
    if not isinstance(network, nn.Module):
        raise ConfigError(f"backbone {type(backbone).__name__} has no network to export; leave export.onnx=false")
    return OnnxModule(
        module=_Features(backbone, network=network, layers=layers).eval(),
        outputs=tuple(layers),
        dynamic={"images": {0: "images"}},
    )
