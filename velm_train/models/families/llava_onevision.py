"""LLaVA-OneVision: a squashed whole view first, then AnyRes crops of the padded view, row-major, with line ends.

The language model reads the whole view, then the crops put together again, without their padding, with one
`image_newline` behind each row. Where the crops hold more tokens than the checkpoint allows, they are reduced after
the projector. In samples of several pictures the family shows each one as a single square tile, padded: `tile_views`
says which of the two forms every view takes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel, ProcessorMixin
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_onevision.modeling_llava_onevision import unpad_image

from velm_train.core.batch import VisionEvidence
from velm_train.core.records import SizeHW
from velm_train.models.families.tap import (
    WHOLE_VIEW,
    Box,
    FirstLook,
    ViewLayout,
    assemble_evidence,
    blocks_of,
    inside_view,
    pixels,
    watching,
)

_MAX_OVERFLOW = 1.1
"""Crops are reduced if their side exceeds the allowed one by more than this factor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LlavaOnevisionTap:
    """Reads LLaVA-OneVision.

    Attributes:
        level_layers: vision blocks that serve as levels, 0 first.
        tile_grid: token rows and columns of every tile.
        tile_views: True for AnyRes crops, False for one padded square per view.
        max_tiles: crops whose tokens the language model reads unreduced.
    """

    level_layers: tuple[int, ...]
    tile_grid: int
    tile_views: bool
    max_tiles: int
    family: str = "llava_onevision"

    def layout(self, processor: ProcessorMixin, size_hw: SizeHW) -> ViewLayout:
        """Returns the tiles of a view; see the protocol."""
        boxes = [WHOLE_VIEW, *_crop_boxes(processor, size_hw)] if self.tile_views else [_square_box(size_hw)]
        grid = (self.tile_grid, self.tile_grid)
        return ViewLayout(size_hw=size_hw, grids_hw=(grid,) * len(boxes), boxes=tuple(boxes), global_tile=0)

    def span(self, processor: ProcessorMixin, layout: ViewLayout) -> str:
        """Returns the placeholders of a view."""
        side = _tile_px(processor)
        inputs = {
            "batch_num_images": [1] if self.tile_views else [2],
            "image_sizes": [layout.size_hw] * 2,
            "pixel_values": np.broadcast_to(np.float32(0), (1, 1, 3, side, side)),
        }
        return str(processor.replace_image_token(inputs, 0))

    def read(
        self,
        vlm: PreTrainedModel,
        processor: ProcessorMixin,
        views: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        layouts: Sequence[ViewLayout],
    ) -> VisionEvidence:
        """Runs processor and tower; see the protocol."""
        if self.tile_views:
            inputs = pixels(views, processor)
            together = torch.ones(len(views), dtype=torch.long)
        else:
            # Two pictures at least, or the processor would cut the only one into crops.
            inputs = pixels([[*views, *views[:1]]], processor)
            together = torch.tensor([len(views) + 1])
        blocks = blocks_of(self.tower(vlm))
        with watching([blocks[layer] for layer in self.level_layers], input_of=self.projector(vlm)) as (seen, read):
            vlm.model.get_image_features(
                inputs["pixel_values"].to(vlm.device, vlm.dtype), inputs["image_sizes"], batch_num_images=together
            )
        num_tiles = sum(layout.num_tiles for layout in layouts)
        return assemble_evidence(
            final=read[0][:num_tiles],
            levels=torch.stack([level[:num_tiles] for level in seen]),
            layouts=layouts,
            inside=[tokens for layout in layouts for tokens in self._inside(layout)],
        )

    def first_look(self, vlm: PreTrainedModel, evidence: VisionEvidence) -> FirstLook:
        """Projects every tile and packs the tiles of each view; see the protocol."""
        projector = self.projector(vlm)
        cells: torch.Tensor = projector(evidence.final.to(next(projector.parameters()).dtype))
        newline = vlm.model.image_newline
        counts = evidence.view_index.bincount().tolist()
        assert evidence.tile_xyxy is not None, "evidence of this family says where its tiles lie"
        tops = torch.split(evidence.tile_xyxy[:, 1], counts)
        views = zip(torch.split(cells, counts), torch.split(evidence.valid, counts), tops, strict=True)
        packed = [
            self._pack(tiles, valid, newline=newline, columns=_columns(top[1:].tolist())) for tiles, valid, top in views
        ]
        return FirstLook(tokens=torch.cat(packed), cells=cells, cell_side=1)

    def project(self, vlm: PreTrainedModel, features: Float[torch.Tensor, "n K Df"]) -> Float[torch.Tensor, "n K D"]:
        """Projects single features."""
        projector = self.projector(vlm)
        projected: torch.Tensor = projector(features.to(next(projector.parameters()).dtype))
        return projected

    @property
    def tile_tokens(self) -> int:
        """Tokens of every tile."""
        return self.tile_grid**2

    def tower(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the SigLIP tower."""
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

    def _inside(self, layout: ViewLayout) -> list[Bool[torch.Tensor, "_ _"]]:
        """Returns the valid tokens of each tile: of crops those that the family keeps, by its own rounding."""
        grid = self.tile_grid
        if not self.tile_views:
            return [inside_view((grid, grid), layout.boxes[0])]
        columns = _columns([box[1] for box in layout.boxes[1:]])
        rows = (layout.num_tiles - 1) // columns
        numbers = torch.arange(rows * grid * columns * grid).reshape(1, rows * grid, columns * grid)
        kept = torch.zeros(numbers.numel(), dtype=torch.bool)
        kept[unpad_image(numbers, layout.size_hw).flatten()] = True
        crops = kept.reshape(rows, grid, columns, grid).transpose(1, 2).reshape(-1, grid, grid)
        return [torch.ones(grid, grid, dtype=torch.bool), *crops]

    def _pack(
        self,
        tiles: Float[torch.Tensor, "tiles N D"],
        valid: Bool[torch.Tensor, "tiles N"],
        *,
        newline: Float[torch.Tensor, " D"],
        columns: int,
    ) -> Float[torch.Tensor, "places D"]:
        """Returns the rows of one view's placeholders, from its tiles and the number of crops in a row."""
        if len(tiles) == 1:
            return torch.cat([tiles[0], newline[None].to(tiles)])
        grid = self.tile_grid
        kept = valid[1:]
        rows = len(kept) // columns
        mosaic = tiles[1:].reshape(rows, columns, grid, grid, -1).permute(4, 0, 2, 1, 3).flatten(3).flatten(1, 2)
        stitched = kept.reshape(rows, columns, grid, grid).transpose(1, 2).reshape(rows * grid, columns * grid)
        mosaic = mosaic[:, stitched.any(dim=1)][:, :, stitched.any(dim=0)]  # (D, rows, columns)
        mosaic = self._reduced(mosaic)
        ends = newline[:, None, None].expand(*mosaic.shape[:-1], 1).to(mosaic)
        return torch.cat([tiles[0], torch.cat([mosaic, ends], dim=-1).flatten(1).transpose(0, 1)])

    def _reduced(self, mosaic: Float[torch.Tensor, "D _ _"]) -> Float[torch.Tensor, "D _ _"]:
        rows, columns = mosaic.shape[1:]
        ratio = math.sqrt(rows * columns / (self.max_tiles * self.tile_grid**2))
        if ratio <= _MAX_OVERFLOW:
            return mosaic
        return F.interpolate(mosaic[None], [int(rows // ratio), int(columns // ratio)], mode="bilinear")[0]


def _columns(tops: Sequence[float]) -> int:
    """Returns the number of crops in a row: those that begin as high as the first one."""
    return sum(top == tops[0] for top in tops)


def _tile_px(processor: ProcessorMixin) -> int:
    size: Any = processor.image_processor.size
    return int(size["height"] if "height" in size else size["shortest_edge"])


def _crop_boxes(processor: ProcessorMixin, size_hw: SizeHW) -> list[Box]:
    """Returns what each crop shows, row-major: the view is enlarged or reduced to fit and centred on the canvas."""
    side = _tile_px(processor)
    canvas_h, canvas_w = select_best_resolution(size_hw, processor.image_processor.image_grid_pinpoints)
    scale_h, scale_w = canvas_h / size_hw[0], canvas_w / size_hw[1]
    if scale_w < scale_h:
        height, width = min(math.ceil(size_hw[0] * scale_w), canvas_h), canvas_w
    else:
        height, width = canvas_h, min(math.ceil(size_hw[1] * scale_h), canvas_w)
    top, left = (canvas_h - height) // 2, (canvas_w - width) // 2
    return [
        ((x - left) / width, (y - top) / height, (x + side - left) / width, (y + side - top) / height)
        for y in range(0, canvas_h, side)
        for x in range(0, canvas_w, side)
    ]


def _square_box(size_hw: SizeHW) -> Box:
    """Returns what the one tile shows: the view, padded to a square."""
    height, width = size_hw
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return (-left / width, -top / height, (side - left) / width, (side - top) / height)
