"""Qwen2.5-VL and Qwen3-VL: pictures in native resolution, one tile a view, 2 x 2 merging.

The tower works on 2 x 2 blocks, in Qwen2.5-VL moreover window by window. Both orders are undone here, so that evidence
is row-major. Qwen3-VL adds features of intermediate blocks to the first layers of the language model ("deepstack");
these blocks are the first levels of the evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize
from transformers.vision_utils import get_vision_window_index

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import DataError
from velm_train.core.records import SizeHW
from velm_train.models.families.tap import (
    WHOLE_VIEW,
    FirstLook,
    ViewLayout,
    assemble_evidence,
    padded_tiles,
    pixels,
    watching,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class QwenTap:
    """Reads Qwen2.5-VL and Qwen3-VL.

    Attributes:
        family: "qwen2_5_vl" or "qwen3_vl".
        level_layers: vision blocks that serve as levels, 0 first; in Qwen3-VL the deepstack blocks come first.
    """

    family: str
    level_layers: tuple[int, ...]

    def layout(self, processor: ProcessorMixin, size_hw: SizeHW) -> ViewLayout:
        """Returns the one tile of a view; see the protocol."""
        images = processor.image_processor
        try:
            height, width = smart_resize(
                *size_hw,
                factor=images.patch_size * images.merge_size,
                min_pixels=images.size["shortest_edge"],
                max_pixels=images.size["longest_edge"],
            )
        except ValueError as error:
            raise DataError(f"a view of {size_hw[0]} x {size_hw[1]} px is not for {self.family}: {error}") from error
        grid = (height // images.patch_size, width // images.patch_size)
        return ViewLayout(size_hw=size_hw, grids_hw=(grid,), boxes=(WHOLE_VIEW,), global_tile=0)

    def span(self, processor: ProcessorMixin, layout: ViewLayout) -> str:
        """Returns the placeholders between the marks of a picture."""
        grid = np.array([[1, *layout.grids_hw[0]]])
        pads = str(processor.replace_image_token({"image_grid_thw": grid}, 0))
        return f"<|vision_start|>{pads}<|vision_end|>"

    def read(
        self,
        vlm: PreTrainedModel,
        processor: ProcessorMixin,
        views: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        layouts: Sequence[ViewLayout],
    ) -> VisionEvidence:
        """Runs processor and tower; see the protocol."""
        inputs = pixels(views, processor)
        grids = inputs["image_grid_thw"]
        assert grids[:, 1:].tolist() == [list(layout.grids_hw[0]) for layout in layouts], (grids, layouts)
        visual = self.tower(vlm)
        with watching([visual.blocks[layer] for layer in self.level_layers], input_of=visual.merger) as (seen, read):
            vlm.model.get_image_features(inputs["pixel_values"].to(vlm.device), grids.to(vlm.device))
        final, *levels = (self._row_major(visual, flat, grids) for flat in (*read, *seen))
        return assemble_evidence(final=final, levels=torch.stack(levels), layouts=layouts)

    def first_look(self, vlm: PreTrainedModel, evidence: VisionEvidence) -> FirstLook:
        """Merges 2 x 2 blocks in the tower's own order; see the protocol."""
        visual = self.tower(vlm)
        grids = evidence.grid_hw
        mergers = [visual.merger]
        sources = [evidence.final]
        if self.family == "qwen3_vl":
            mergers += list(visual.deepstack_merger_list)
            sources += list(evidence.levels[: len(visual.deepstack_merger_list)])
        merged = [self._merge(visual, merger, source, grids) for merger, source in zip(mergers, sources, strict=True)]
        sizes = (grids.prod(dim=1) // visual.spatial_merge_size**2).tolist()
        return FirstLook(
            tokens=merged[0],
            cells=padded_tiles(torch.split(merged[0], sizes)),
            cell_side=visual.spatial_merge_size,
            deepstack=tuple(merged[1:]),
        )

    def project(self, vlm: PreTrainedModel, features: Float[torch.Tensor, "n K Df"]) -> Float[torch.Tensor, "n K D"]:
        """Merges blocks that hold one feature everywhere."""
        merger = self.projector(vlm)
        blocks = features.flatten(0, 1).repeat_interleave(self.tower(vlm).spatial_merge_size ** 2, dim=0)
        merged: torch.Tensor = merger(blocks.to(next(merger.parameters()).dtype))
        return merged.reshape(*features.shape[:2], -1)

    @property
    def tile_tokens(self) -> None:
        """Tiles follow the view's size."""
        return

    def tower(self, vlm: PreTrainedModel) -> PreTrainedModel:
        """Returns the vision transformer with its mergers."""
        visual: PreTrainedModel = vlm.model.visual
        return visual

    def projector(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the merger."""
        merger: nn.Module = vlm.model.visual.merger
        return merger

    def decoder(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the language model without its output layer."""
        decoder: nn.Module = vlm.model.language_model
        return decoder

    def _window_order(
        self, visual: PreTrainedModel, grids: Int[torch.Tensor, "T 2"]
    ) -> Int[torch.Tensor, " cells"] | None:
        """Returns the cell that stands at each place of the tower's order; None if cells are in row-major order."""
        if self.family != "qwen2_5_vl":
            return None
        grid_thw = torch.cat([torch.ones_like(grids[:, :1]), grids], dim=1)
        order: torch.Tensor = get_vision_window_index(
            grid_thw,
            spatial_merge_size=visual.spatial_merge_size,
            window_size=visual.window_size,
            patch_size=visual.patch_size,
        )[0]
        return order.to(grids.device)

    def _row_major(
        self, visual: PreTrainedModel, flat: Float[torch.Tensor, "patches D"], grid_thw: Int[torch.Tensor, "T 3"]
    ) -> Float[torch.Tensor, "T N D"]:
        grids = grid_thw[:, 1:].to(flat.device)
        side = visual.spatial_merge_size
        cells = flat.reshape(-1, side * side, flat.shape[1])
        order = self._window_order(visual, grids)
        if order is not None:
            cells = cells[order.argsort()]
        tiles = torch.split(cells.flatten(0, 1), grids.prod(dim=1).tolist())
        return padded_tiles(
            [
                tile[block_order(rows, columns, side=side).argsort().to(flat.device)]
                for tile, (rows, columns) in zip(tiles, grids.tolist(), strict=True)
            ]
        )

    def _merge(
        self,
        visual: PreTrainedModel,
        merger: nn.Module,
        tiles: Float[torch.Tensor, "T N D"],
        grids: Int[torch.Tensor, "T 2"],
    ) -> Float[torch.Tensor, "cells H"]:
        side = visual.spatial_merge_size
        blocks = torch.cat(
            [
                tile[block_order(rows, columns, side=side).to(tile.device)]
                for tile, (rows, columns) in zip(tiles, grids.tolist(), strict=True)
            ]
        ).to(next(merger.parameters()).dtype)
        order = self._window_order(visual, grids)
        if order is None:
            merged: torch.Tensor = merger(blocks)
            return merged
        windowed = blocks.reshape(len(order), -1, blocks.shape[1])[order].flatten(0, 1)
        unwindowed: torch.Tensor = merger(windowed)[order.argsort()]
        return unwindowed


def block_order(rows: int, columns: int, *, side: int) -> Int[torch.Tensor, " tokens"]:
    """Returns the row-major number of the token at each place of the order in which side x side blocks lie together.

    Args:
        rows: a multiple of `side`.
        columns: a multiple of `side`.
        side: of a block, tokens.
    """
    numbers = torch.arange(rows * columns).reshape(rows // side, side, columns // side, side)
    return numbers.transpose(1, 2).flatten()
