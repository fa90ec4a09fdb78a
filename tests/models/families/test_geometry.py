"""Tokens stand where the picture says: a bright patch lights its own tokens, in every tile that shows it."""

import numpy as np
import pytest
import torch

from velm_train.models.families.qwen import block_order
from velm_train.models.families.tap import FirstLook, ViewLayout, assemble_evidence, crop_boxes, spread
from velm_train.models.look_twice.geometry import token_boxes

SIZE = (120, 200)
PATCHES = [(10, 12), (20, 160), (90, 30), (96, 170), (55, 100)]
"""Upper left corners (row, column) of a bright square of 16 px."""

SQUARE = 16


def with_patch(corner):
    picture = np.full((*SIZE, 3), 90, dtype=np.uint8)
    if corner is not None:
        picture[corner[0] : corner[0] + SQUARE, corner[1] : corner[1] + SQUARE] = (255, 40, 0)
    return picture


def changes(model, corner):
    """Returns how much each token's final and first level changes when the patch is put in, and who sees the patch."""
    plain, lit = (model.encode_views([with_patch(place)]) for place in (None, corner))
    boxes = token_boxes(lit.grid_hw, num_tokens=lit.final.shape[1], tile_xyxy=lit.tile_xyxy)
    pixels = boxes * torch.tensor([SIZE[1], SIZE[0], SIZE[1], SIZE[0]])
    row, column = corner
    slack = 4.0  # resampling blurs the edge
    sees = (
        (pixels[..., 0] < column + SQUARE + slack)
        & (pixels[..., 2] > column - slack)
        & (pixels[..., 1] < row + SQUARE + slack)
        & (pixels[..., 3] > row - slack)
    )
    on_grid = torch.arange(lit.final.shape[1]) < lit.grid_hw.prod(dim=1, keepdim=True)
    final = (lit.final - plain.final).norm(dim=-1)
    level = (lit.levels[0] - plain.levels[0]).norm(dim=-1)
    return final, level, sees & on_grid & lit.valid


@pytest.mark.parametrize("tile_views", [True, False])
@pytest.mark.parametrize("corner", PATCHES)
def test_a_bright_patch_lights_its_own_tokens(make_family, family, corner, tile_views):
    # Attention carries a little of the patch everywhere; the most changed token must be one that sees it.
    final, level, sees = changes(make_family(family, tile_views=tile_views), corner)
    for change in (final, level):
        assert bool(sees.flatten()[change.flatten().argmax()])
        for tile in range(len(change)):
            if bool(sees[tile].any()) and float(change[tile].max()) > 0.5 * float(change.max()):
                assert bool(sees[tile, change[tile].argmax()]), tile


@pytest.mark.parametrize("corner", PATCHES)
def test_tokens_far_from_the_patch_change_less(make_family, family, corner):
    final, _, sees = changes(make_family(family), corner)
    assert float(final[sees].max()) > 2 * float(final[~sees].mean())


def test_exactly_one_tile_of_a_view_shows_all_of_it(make_family, family, pictures):
    evidence = make_family(family).encode_views(pictures([(100, 150), (60, 60), (150, 40)]))
    for view in range(3):
        whole = evidence.is_global & (evidence.view_index == view)
        assert int(whole.sum()) == 1
        assert evidence.tile_xyxy[whole].tolist() == [[0, 0, 1, 1]]
    assert bool((evidence.view_index.diff() >= 0).all())


def test_crops_cover_the_view(make_family, family, pictures):
    evidence = make_family(family).encode_views(pictures([SIZE]))
    boxes = evidence.tile_xyxy[~evidence.is_global]
    if family.startswith("qwen"):
        assert len(boxes) == 0
        return
    assert len(boxes) > 1
    assert boxes[:, :2].min() <= 0
    assert boxes[:, 2:].max() >= 1
    assert float((boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sum()) >= 1 - 1e-5


def test_padding_of_a_llava_square_is_not_valid(make_family, pictures):
    # 56 x 112 px in a square of 112: bars of 28 px, a quarter of 4 token rows each, above and below.
    evidence = make_family("llava_onevision", tile_views=False).encode_views(pictures([(56, 112)]))
    assert evidence.valid.reshape(4, 4).tolist() == [[False] * 4, [True] * 4, [True] * 4, [False] * 4]
    torch.testing.assert_close(evidence.tile_xyxy, torch.tensor([[0.0, -0.5, 1.0, 1.5]]))


def test_padding_of_llava_crops_is_not_valid_and_not_read(make_family, pictures):
    # 56 x 224 px fit a canvas of 56 x 168 (3 tiles) at 42 x 168 px: bars of 7 px, half a token, which the family keeps.
    model = make_family("llava_onevision")
    evidence = model.encode_views(pictures([(56, 224)]))
    first, _ = model.look(evidence)
    kept = int(evidence.valid[1:].sum())
    rows = kept // 12
    assert evidence.valid[0].all()
    assert len(first.tokens) == 16 + rows * (12 + 1) == model.view_token_ids((56, 224)).count(model.image_token_id)


def test_crops_beyond_the_limit_are_reduced(make_family):
    # 168 x 168 px: 3 x 3 crops of 4 x 4 tokens; 4 tiles are allowed, so 12 x 12 become 8 x 8, with 8 line ends.
    ids = make_family("llava_onevision").view_token_ids((168, 168))
    assert len(ids) == 16 + 8 * 8 + 8


def test_blocks_of_two_by_two():
    # 2 rows, 4 columns:  0 1 2 3 / 4 5 6 7
    assert block_order(2, 4, side=2).tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


def test_spread_gives_every_token_its_cell():
    layout = ViewLayout(size_hw=(20, 40), grids_hw=((2, 4),), boxes=((0.0, 0.0, 1.0, 1.0),), global_tile=0)
    evidence = assemble_evidence(final=torch.zeros(1, 9, 3), levels=torch.zeros(1, 1, 9, 3), layouts=[layout])
    cells = torch.tensor([[[1.0], [2.0]]])
    look = FirstLook(tokens=cells[0], cells=cells, cell_side=2)
    assert spread(look, evidence)[0, :, 0].tolist() == [1, 1, 2, 2, 1, 1, 2, 2, 0]


def test_spread_cells_are_those_of_the_tokens(make_family, family, pictures):
    # Families without line ends: the mean over a cell's tokens is the cell itself, in placeholder order.
    model = make_family(family)
    evidence = model.encode_views(pictures([(100, 150)]))
    first, _ = model.look(evidence)
    side = first.cell_side
    spreads = spread(first, evidence)
    cells = []
    for tile, (rows, columns) in zip(spreads, evidence.grid_hw.tolist(), strict=True):
        grid = tile[: rows * columns].reshape(rows // side, side, columns // side, side, -1)
        assert torch.equal(grid, grid[:, :1, :, :1].expand_as(grid))
        cells.append(grid[:, 0, :, 0].flatten(0, 1))
    if family == "llava_onevision":
        assert torch.equal(torch.cat(cells)[:16], first.tokens[:16])
    else:
        assert torch.equal(torch.cat(cells), first.tokens)


def test_crop_boxes_are_row_major():
    assert crop_boxes(1, 2) == ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
    assert crop_boxes(2, 1)[1] == (0.0, 0.5, 1.0, 1.0)
