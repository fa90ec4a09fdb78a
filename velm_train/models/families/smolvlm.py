"""SmolVLM and Idefics3: crops of the enlarged view, row-major, then the squashed whole; pixel shuffle in the projector.

Every tile is full: the processor stretches the view to whole tiles. The text names each crop's row and column.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin
from transformers.models.idefics3.image_processing_idefics3 import get_resize_output_image_size

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
class SmolVLMTap:
    """Reads SmolVLM and Idefics3.

    Attributes:
        level_layers: vision blocks that serve as levels, 0 first.
        tile_grid: token rows and columns of every tile.
        cell_side: tokens along a side that the pixel shuffle joins.
    """

    level_layers: tuple[int, ...]
    tile_grid: int
    cell_side: int
    family: str = "smolvlm"

    def layout(self, processor: ProcessorMixin, size_hw: SizeHW) -> ViewLayout:
        """Returns the tiles of a view; see the protocol."""
        rows, columns = _rows_and_columns(processor, size_hw)
        boxes = (*crop_boxes(rows, columns), WHOLE_VIEW)
        grid = (self.tile_grid, self.tile_grid)
        return ViewLayout(size_hw=size_hw, grids_hw=(grid,) * len(boxes), boxes=boxes, global_tile=len(boxes) - 1)

    def span(self, processor: ProcessorMixin, layout: ViewLayout) -> str:
        """Returns the placeholders of all tiles between the marks of the tiles."""
        rows, columns = _rows_and_columns(processor, layout.size_hw)
        return str(processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0))

    def read(
        self,
        vlm: PreTrainedModel,
        processor: ProcessorMixin,
        views: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        layouts: Sequence[ViewLayout],
    ) -> VisionEvidence:
        """Runs processor and tower; see the protocol."""
        inputs = pixels([[view] for view in views], processor)
        blocks = blocks_of(self.tower(vlm))
        with watching([blocks[layer] for layer in self.level_layers], input_of=self.projector(vlm)) as (seen, read):
            vlm.model.get_image_features(
                inputs["pixel_values"].to(vlm.device, vlm.dtype), inputs["pixel_attention_mask"].to(vlm.device)
            )
        return assemble_evidence(final=read[0], levels=torch.stack(seen), layouts=layouts)

    def first_look(self, vlm: PreTrainedModel, evidence: VisionEvidence) -> FirstLook:
        """Joins and projects the tokens of every tile; see the protocol."""
        projector = self.projector(vlm)
        cells: torch.Tensor = projector(evidence.final.to(next(projector.parameters()).dtype))
        return FirstLook(tokens=cells.flatten(0, 1), cells=cells, cell_side=self.cell_side)

    def project(self, vlm: PreTrainedModel, features: Float[torch.Tensor, "n K Df"]) -> Float[torch.Tensor, "n K D"]:
        """Projects cells that hold one feature everywhere."""
        projector = self.projector(vlm)
        cells = features.flatten(0, 1)[:, None].repeat(1, self.cell_side**2, 1)
        projected: torch.Tensor = projector(cells.to(next(projector.parameters()).dtype))
        return projected.reshape(*features.shape[:2], -1)

    @property
    def tile_tokens(self) -> int:
        """Tokens of every tile."""
        return self.tile_grid**2

    def tower(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the SigLIP tower."""
        tower: nn.Module = vlm.model.vision_model
        return tower

    def projector(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns pixel shuffle and projection."""
        projector: nn.Module = vlm.model.connector
        return projector

    def decoder(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the language model without its output layer."""
        decoder: nn.Module = vlm.model.text_model
        return decoder


def _rows_and_columns(processor: ProcessorMixin, size_hw: SizeHW) -> tuple[int, int]:
    """Returns how many crops the processor makes, 0 and 0 if the whole view alone.

    The steps of `SmolVLMImageProcessor._preprocess`; its own `get_number_of_image_patches` rounds otherwise.
    """
    images = processor.image_processor
    if not images.do_image_splitting:
        return (0, 0)
    side = images.max_image_size["longest_edge"]
    shape_only = np.broadcast_to(np.uint8(0), (3, *size_hw))  # no memory
    height, width = get_resize_output_image_size(shape_only, images.size["longest_edge"])
    aspect = width / height
    if width >= height:
        columns = math.ceil(width / side)
        rows = math.ceil(int(columns * side / aspect) / side)
    else:
        rows = math.ceil(height / side)
        columns = math.ceil(int(rows * side * aspect) / side)
    return (rows, columns) if rows > 1 or columns > 1 else (0, 0)
