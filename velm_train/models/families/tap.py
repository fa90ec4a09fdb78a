"""What one model family knows about its own visual tokens: tiles, token order, what the projector makes of them.

view (h, w) ─► layout: tiles, grids, boxes ─► span: the family's own text for the view, with its placeholders
views ─► read: the frozen tower ─► VisionEvidence ─► first_look: rows of the placeholders
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from velm_train.core.batch import VisionEvidence
from velm_train.core.records import SizeHW

Box = tuple[float, float, float, float]
"""Part of a view, (x0, y0, x1, y1) as fractions of its width and height."""

WHOLE_VIEW: Box = (0.0, 0.0, 1.0, 1.0)

_BOX_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewLayout:
    """How a family cuts a view of one size into tiles.

    Attributes:
        size_hw: of the view, pixels.
        grids_hw: token rows and columns of each tile, in the tower's order.
        boxes: the part of the view that each tile shows; beyond 0..1 where a tile reaches into padding.
        global_tile: the tile that shows all of the view.
    """

    size_hw: SizeHW
    grids_hw: tuple[SizeHW, ...]
    boxes: tuple[Box, ...]
    global_tile: int

    @property
    def num_tiles(self) -> int:
        """Tiles of the view, at least 1."""
        return len(self.grids_hw)


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstLook:
    """What the language model reads of the first look.

    Attributes:
        tokens: one row per placeholder, in the order of the placeholders.
        cells: projected features of every tile's merge cells, row-major, padded to C cells.
        cell_side: fine tokens along a side of a cell.
        deepstack: rows that the first layers of the language model add to those of `tokens`, one per layer.
    """

    tokens: Float[torch.Tensor, "places D"]
    cells: Float[torch.Tensor, "T C D"]
    cell_side: int
    deepstack: tuple[Float[torch.Tensor, "places D"], ...] = ()


def no_look(embeds: Float[torch.Tensor, "B T D"]) -> FirstLook:
    """Returns the first look of a batch without any view.

    Args:
        embeds: of its words.
    """
    return FirstLook(tokens=embeds[0, :0], cells=embeds[:0], cell_side=1)


@runtime_checkable
class FamilyTap(Protocol):
    """The only code that knows a family's modules, token order and tiles."""

    @property
    def family(self) -> str:
        """Name, such as "qwen2_5_vl"."""
        ...

    def layout(self, processor: ProcessorMixin, size_hw: SizeHW) -> ViewLayout:
        """Returns the tiles of a view, by the processor's own rules.

        Raises:
            DataError: if the family cannot take a view of this size.
        """
        ...

    def span(self, processor: ProcessorMixin, layout: ViewLayout) -> str:
        """Returns the text that stands for a view, made by the processor's own expansion."""
        ...

    def read(
        self,
        vlm: PreTrainedModel,
        processor: ProcessorMixin,
        views: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        layouts: Sequence[ViewLayout],
    ) -> VisionEvidence:
        """Runs processor and frozen tower; tokens in row-major order per tile, float32, `map_scores` zero."""
        ...

    def first_look(self, vlm: PreTrainedModel, evidence: VisionEvidence) -> FirstLook:
        """Runs the family's own projector; gradients flow if its weights learn."""
        ...

    def project(self, vlm: PreTrainedModel, features: Float[torch.Tensor, "n K Df"]) -> Float[torch.Tensor, "n K D"]:
        """Puts single features through the projector; families that merge cells see a cell of one feature."""
        ...

    @property
    def tile_tokens(self) -> int | None:
        """Tokens of every tile, None if tiles follow the view's size."""
        ...

    def tower(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the frozen vision tower."""
        ...

    def projector(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns what maps the tower's features into the language model's space."""
        ...

    def decoder(self, vlm: PreTrainedModel) -> nn.Module:
        """Returns the language model without its output layer."""
        ...


def pixels(
    views: Sequence[Any], processor: ProcessorMixin, *, settings: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Runs the family's image processor.

    Args:
        views: RGB pictures, or lists of them for families that group pictures by sample.
        processor: the family's own.
        settings: what its text side would ask of the image side.
    """
    output: Mapping[str, Any] = processor.image_processor(
        images=list(views), input_data_format="channels_last", return_tensors="pt", **(settings or {})
    )
    return output


@contextmanager
def watching(
    outputs_of: Sequence[nn.Module] = (), *, input_of: nn.Module | None = None
) -> Iterator[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    """Collects the outputs of some modules and the input of one, inside a `with` block.

    The watched input is also cast to its module's type, so that a projector may learn in float32 behind a tower in
    bfloat16.

    Args:
        outputs_of: modules in the order of the first list, whatever the order in which they run.
        input_of: module whose first input goes to the second list.
    """
    outputs = [torch.empty(0)] * len(outputs_of)
    inputs: list[torch.Tensor] = []

    def keep_output(
        place: int, _module: nn.Module, _args: tuple[Any, ...], output: torch.Tensor | tuple[Any, ...]
    ) -> None:
        outputs[place] = output[0] if isinstance(output, tuple) else output

    def keep_input(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        inputs.append(args[0])
        return (args[0].to(next(module.parameters()).dtype), *args[1:])

    handles = [module.register_forward_hook(partial(keep_output, place)) for place, module in enumerate(outputs_of)]
    if input_of is not None:
        handles.append(input_of.register_forward_pre_hook(keep_input))
    try:
        yield outputs, inputs
    finally:
        for handle in handles:
            handle.remove()


def assemble_evidence(
    *,
    final: Float[torch.Tensor, "T N Df"],
    levels: Float[torch.Tensor, "L T N Dl"],
    layouts: Sequence[ViewLayout],
    inside: Sequence[Bool[torch.Tensor, "_ _"]] | None = None,
) -> VisionEvidence:
    """Puts tiles of all views together.

    Args:
        final: tiles in the order of the layouts, padded to N tokens.
        levels: the same of every depth.
        layouts: one per view.
        inside: True for the valid tokens of each tile, (rows, columns); None for those that touch the view.
    """
    device = final.device
    grids = [grid for layout in layouts for grid in layout.grids_hw]
    boxes = [box for layout in layouts for box in layout.boxes]
    assert len(grids) == len(final), f"{len(final)} tiles from the tower, {len(grids)} by the layout"
    if inside is None:
        inside = [inside_view(grid, box) for grid, box in zip(grids, boxes, strict=True)]
    valid = torch.zeros(final.shape[:2], dtype=torch.bool)
    for number, tokens in enumerate(inside):
        valid[number, : tokens.numel()] = tokens.flatten()
    return VisionEvidence(
        final=final.float(),
        levels=levels.float(),
        grid_hw=torch.tensor(grids, device=device),
        view_index=torch.tensor(
            [view for view, layout in enumerate(layouts) for _ in layout.grids_hw], dtype=torch.long, device=device
        ),
        is_global=torch.tensor(
            [tile == layout.global_tile for layout in layouts for tile in range(layout.num_tiles)], device=device
        ),
        valid=valid.to(device),
        map_scores=torch.zeros(final.shape[:2], device=device),
        tile_xyxy=torch.tensor(boxes, dtype=torch.float32, device=device),
    )


def inside_view(grid_hw: SizeHW, box: Box) -> Bool[torch.Tensor, "_ _"]:
    """Returns True, (rows, columns), for tokens of a tile of which some part lies inside the view."""
    rows = _inside(grid_hw[0], box[1], box[3])
    columns = _inside(grid_hw[1], box[0], box[2])
    return rows[:, None] & columns[None, :]


def crop_boxes(rows: int, columns: int) -> tuple[Box, ...]:
    """Returns the boxes of crops that divide a view evenly, row-major."""
    return tuple(
        (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        for row in range(rows)
        for column in range(columns)
    )


def _inside(count: int, low: float, high: float) -> torch.Tensor:
    edges = low + (high - low) * torch.arange(count + 1, dtype=torch.float64) / count
    return (edges[1:] > _BOX_TOLERANCE) & (edges[:-1] < 1 - _BOX_TOLERANCE)


def spread(look: FirstLook, evidence: VisionEvidence) -> Float[torch.Tensor, "T N D"]:
    """Gives every fine token the projected feature of its merge cell, 0 beyond a tile's grid."""
    num_tokens, device = evidence.final.shape[1], evidence.final.device
    place = torch.arange(num_tokens, device=device)
    rows, columns = evidence.grid_hw[:, :1], evidence.grid_hw[:, 1:]
    side = look.cell_side
    cell = (place // columns // side) * (columns // side) + place % columns // side  # (T, N)
    on_grid = place < rows * columns
    index = torch.where(on_grid, cell, 0)[..., None].expand(-1, -1, look.cells.shape[-1])
    return look.cells.gather(1, index) * on_grid[..., None]


def padded_tiles(tiles: Sequence[Float[torch.Tensor, "_ D"]]) -> Float[torch.Tensor, "T N D"]:
    """Stacks tiles of unequal token counts, zeros behind the shorter ones."""
    return nn.utils.rnn.pad_sequence(list(tiles), batch_first=True)


def blocks_of(tower: nn.Module) -> nn.ModuleList:
    """Returns the transformer blocks of a tower, shallow first."""
    names = (".layers", ".layer", ".blocks")
    found = [
        module
        for name, module in tower.named_modules()
        if isinstance(module, nn.ModuleList) and f".{name}".endswith(names)
    ]
    assert len(found) == 1, f"{len(found)} lists of blocks in {type(tower).__name__}"
    return found[0]
