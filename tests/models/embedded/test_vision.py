"""Two towers on one grid: cells line up with the picture, layout and laziness."""

import numpy as np
import pytest
import torch

from velm_train.core.errors import ConfigError
from velm_train.models.embedded.vision import SOURCE_DIMS, VisionSettings

CPU = torch.device("cpu")


def _views():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (33, 57, 3), dtype=np.uint8), rng.integers(0, 256, (128, 90, 3), dtype=np.uint8)]


def test_evidence_has_one_whole_tile_per_view(tiny_towers):
    evidence = tiny_towers(VisionSettings(level_layers=("block3", "block9"))).encode(_views(), device=CPU)
    assert evidence.final.shape == (2, 36, sum(SOURCE_DIMS)) == (2, 36, 1792)
    assert evidence.levels.shape == (2, 2, 36, 384)
    assert evidence.grid_hw.tolist() == [[6, 6], [6, 6]]
    assert evidence.view_index.tolist() == [0, 1]
    assert evidence.is_global.all()
    assert evidence.valid.all()
    assert evidence.map_scores.abs().sum() == 0
    assert not evidence.final.requires_grad


def test_every_source_of_a_token_sees_the_same_place(tiny_towers):
    settings = VisionSettings()
    towers = tiny_towers(settings)
    black = np.zeros((192, 192, 3), dtype=np.uint8)
    marked = black.copy()
    marked[64:96, 128:160] = 255  # row 2, column 4 of 6 x 6 cells of 32 pixels
    evidence = towers.encode([black, marked], device=CPU)
    changed = (evidence.final[1] - evidence.final[0]).abs()
    for source in changed.split(SOURCE_DIMS, dim=-1):
        assert source.sum(dim=-1).argmax().item() == 2 * 6 + 4
    assert (evidence.levels[0, 1] - evidence.levels[0, 0]).abs().sum(dim=-1).argmax().item() == 2 * 6 + 4


def test_views_are_encoded_independently_of_their_batch(tiny_towers):
    towers = tiny_towers()
    first, second = _views()
    together, alone = towers.encode([first, second], device=CPU), towers.encode([second], device=CPU)
    torch.testing.assert_close(together.final[1], alone.final[0])


def test_towers_are_loaded_at_the_first_picture_and_the_identity_is_known_before(tiny_towers):
    towers = tiny_towers()
    identity = towers.identity
    assert not towers.loaded
    towers.encode(_views(), device=CPU)
    assert towers.loaded
    assert towers.identity == identity


def test_the_identity_depends_on_all_that_shapes_the_evidence_and_on_nothing_else(tiny_towers):
    base = VisionSettings(cnn_px=192, vit_px=168, level_layers=("block3",), first_look_grid=3)
    same = VisionSettings(cnn_px=192, vit_px=168, level_layers=("block3",), first_look_grid=2)
    larger = VisionSettings(cnn_px=256, vit_px=224, level_layers=("block3",), first_look_grid=2)
    deeper = VisionSettings(cnn_px=192, vit_px=168, level_layers=("block6",), first_look_grid=3)
    identities = [tiny_towers(settings).identity for settings in (base, same, larger, deeper)]
    identities.append(tiny_towers(base, weights_identity="other").identity)
    assert identities[0] == identities[1]
    assert len(set(identities)) == 4


@pytest.mark.parametrize(("cnn_px", "vit_px"), [(192, 224), (200, 168), (192, 170), (0, 0)])
def test_sizes_of_unequal_grids_are_refused(cnn_px, vit_px):
    with pytest.raises(ConfigError, match="192 and 168"):
        VisionSettings(cnn_px=cnn_px, vit_px=vit_px)


@pytest.mark.parametrize("layers", [(), ("block4",), ("final",)])
def test_unknown_levels_are_refused(layers):
    with pytest.raises(ConfigError, match="block3, block6, block9, block12"):
        VisionSettings(level_layers=layers)
