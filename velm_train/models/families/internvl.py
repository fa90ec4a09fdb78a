"""InternVL as transformers has it: crops of the stretched view, row-major, then a thumbnail; 2 x 2 pixel shuffle.

A view that fits one tile has no thumbnail: the tile itself shows all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin
from transformers.models.got_ocr2.image_processing_got_ocr2 import get_optimal_tiled_canvas

from velm_train.core.batch import VisionEvidence
from velm_train.core.records import SizeHW
from velm_train.models.families.tap import (
    WHOLE_VIEW,
    FirstLook,
    ViewLayout,
    assemble_evidence,
    blocks_of,
    crop_boxes,
    pixels,
    watching,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class InternVLTap:
    """Reads InternVL.

    Attributes:
        level_layers: vision blocks that serve as levels, 0 first.
        tile_grid: token rows and columns of every tile.
        cell_side: tokens along a side that the pixel shuffle joins.
    """

    level_layers: tuple[int, ...]
    tile_grid: int
    cell_side: int
    family: str = "internvl"

    def layout(self, processor: ProcessorMixin, size_hw: SizeHW) -> ViewLayout:
        """Returns the tiles of a view; see the protocol."""
        images = processor.image_processor
        columns, rows = get_optimal_tiled_canvas(
            size_hw, (images.size["height"], images.size["width"]), images.min_patches, images.max_patches
        )
        crops = crop_boxes(rows, columns)
        boxes = crops if len(crops) == 1 else (*crops, WHOLE_VIEW)
        grid = (self.tile_grid, self.tile_grid)
        return ViewLayout(size_hw=size_hw, grids_hw=(grid,) * len(boxes), boxes=boxes, global_tile=len(boxes) - 1)

    def span(self, processor: ProcessorMixin, layout: ViewLayout) -> str:
        """Returns the placeholders of all tiles between the marks of a picture."""
        return str(processor.replace_image_token({"num_patches": [layout.num_tiles]}, 0))

    def read(
        self,
        vlm: PreTrainedModel,
        processor: ProcessorMixin,
        views: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        layouts: Sequence[ViewLayout],
    ) -> VisionEvidence:
        """Runs processor and tower, and drops the class token; see the protocol."""
        inputs = pixels(views, processor, settings={"crop_to_patches": True})
        tower = self.tower(vlm)
        blocks = blocks_of(tower)
        watched = [*(blocks[layer] for layer in self.level_layers), tower.get_submodule("layernorm")]
        with watching(watched, input_of=self.projector(vlm)) as (seen, _):
            vlm.model.get_image_features(inputs["pixel_values"].to(vlm.device, vlm.dtype))
        *levels, final = (tokens[:, 1:] for tokens in seen)
        return assemble_evidence(final=final, levels=torch.stack(levels), layouts=layouts)

    def first_look(self, vlm: PreTrainedModel, evidence: VisionEvidence) -> FirstLook:
        """Joins and projects the tokens of every tile; see the protocol."""
        final, grid = evidence.final, self.tile_grid
        cells = self._cells(vlm, final.reshape(len(final), grid, grid, -1))
        return FirstLook(tokens=cells.flatten(0, 1), cells=cells, cell_side=self.cell_side)

    def _cells(
        self, vlm: PreTrainedModel, squares: Float[torch.Tensor, "T rows columns Df"]
    ) -> Float[torch.Tensor, "T C D"]:
        projector = self.projector(vlm)
        squares = squares.to(next(projector.parameters()).dtype)
        joined = vlm.model.pixel_shuffle(squares, scale_factor=vlm.config.downsample_ratio).flatten(1, 2)
        cells: torch.Tensor = projector(joined)
        return cells

    def project(self, vlm: PreTrainedModel, features: Float[torch.Tensor, "n K Df"]) -> Float[torch.Tensor, "n K D"]:
        """Projects cells that hold one feature everywhere."""
        side = self.cell_side
        squares = features.flatten(0, 1)[:, None, None].repeat(1, side, side, 1)
        return self._cells(vlm, squares).reshape(*features.shape[:2], -1)

    @property
    def tile_tokens(self) -> int:
        """Tokens of every tile."""
        return self.tile_grid**2

    def tower(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the InternViT tower."""
        tower: nn.Module = vlm.model.vision_tower
        return tower

    def projector(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the two-layer projector."""
        projector: nn.Module = vlm.model.multi_modal_projector
        return projector

    def decoder(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the language model without its output layer."""
        decoder: nn.Module = vlm.model.language_model
        return decoder
