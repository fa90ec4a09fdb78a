"""Second-look tokens: where their weight lies and what they may be made of."""

import pytest
import torch

from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.selector import TokenSelector


@pytest.fixture
def selector():
    with seeded_init(4, "selector"):
        return TokenSelector(feature_dim=20, pool=2, dim=6)


def _hot(evidence, *, tile, token):
    scores = torch.where(evidence.valid, 0.02, 0.0)
    scores[tile, token] = 0.98
    return scores


def test_a_fresh_selector_looks_at_the_hot_cell_of_a_non_square_grid(selector, make_evidence):
    evidence = make_evidence()
    weights = selector.attention(evidence, _hot(evidence, tile=2, token=7))[1, :, :12]  # row 2, column 1 of 4 x 3
    assert weights[0, 7].item() == pytest.approx(0.98 / (0.98 + 10 * 0.02), abs=1e-4)
    for number in (3, 4):  # both lower bins share the middle column
        assert weights[number, 7] > 0.8


def test_a_hot_token_of_a_crop_is_found_in_the_bin_of_its_place_in_the_view(selector, make_evidence):
    evidence = make_evidence()  # tile 0 shows the upper right quarter of view 0
    weights = selector.attention(evidence, _hot(evidence, tile=0, token=3))[0]  # 12 tokens of tile 0, then of tile 1
    assert weights[2, 3] > 0.5  # upper right
    assert weights[1, 3] < weights[2, 3] / 3  # upper left: the score attracts, the place does not
    assert weights[0, 3].item() == pytest.approx(0.98 / (0.98 + 17 * 0.02), abs=1e-4)


def test_tokens_of_other_views_get_no_weight(selector, make_evidence):
    evidence = make_evidence()
    tokens = selector(evidence, torch.where(evidence.valid, 0.5, 0.0), torch.randn(3, 12, 5))
    changed = torch.randn(3, 12, 5)
    again = selector(evidence, torch.where(evidence.valid, 0.5, 0.0), changed)
    assert not torch.allclose(tokens, again)
    changed[2] = 0.0
    assert torch.equal(selector(evidence, torch.where(evidence.valid, 0.5, 0.0), changed)[0], again[0])


def test_several_tiles_equal_one_long_tile_written_out(selector, make_evidence):
    """The weights of view 0, token by token over both of its tiles."""
    evidence = make_evidence()
    torch.nn.init.normal_(selector.query.weight)
    scores = torch.rand(3, 12) * evidence.valid
    found = selector.attention(evidence, scores)[0]
    real = [(tile, n) for tile in (0, 1) for n in range(12) if evidence.valid[tile, n]]
    middles = {0: lambda n: (0.5 + (n % 3 + 0.5) / 6, (n // 3 + 0.5) / 4), 1: lambda n: ((n % 4 + 0.5) / 4, n // 4)}
    features = torch.stack([selector.norm(evidence.final[tile, n]) for tile, n in real])
    weights = torch.tensor([float(scores[tile, n]) + 1e-6 for tile, n in real])
    right = torch.tensor([float(middles[tile](n)[0] > 0.5) for tile, n in real])
    upper = torch.tensor([float(tile == 0 or n // 4 <= 1) for tile, n in real])  # row 1 of 3 lies in both halves
    lower = torch.tensor([float(tile == 1 and n // 4 >= 1) for tile, n in real])
    for number, in_bin in enumerate([upper * (1 - right), upper * right, lower * (1 - right), lower * right], start=1):
        query = selector.query((in_bin * weights) @ features / (in_bin * weights).sum())
        logits = selector.key(features) @ query / 6**0.5 + weights.log() + 4.0 * in_bin
        expected = torch.zeros(24)
        expected[[12 * tile + n for tile, n in real]] = logits.softmax(dim=0)
        torch.testing.assert_close(found[number], expected, atol=1e-5, rtol=1e-4)


def test_the_bins_keep_their_tokens_apart_at_the_start(selector, make_evidence):
    evidence = make_evidence()
    uniform = torch.where(evidence.valid, 0.5, 0.0)
    weights = selector.attention(evidence, uniform)[1]
    assert torch.pdist(weights[1:]).min() > 0.1


def test_the_global_token_is_the_score_weighted_mean_of_the_view(selector, make_evidence):
    evidence = make_evidence()
    scores = torch.rand(3, 12) * evidence.valid
    projected = torch.randn(3, 12, 5)
    tokens = selector(evidence, scores, projected)
    assert tokens.shape == (2, 5, 5)
    for view, tiles in enumerate([[0, 1], [2]]):
        weights = scores[tiles].flatten()
        expected = (weights[:, None] * projected[tiles].flatten(0, 1)).sum(0) / weights.sum()
        torch.testing.assert_close(tokens[view, 0], expected, atol=1e-4, rtol=1e-4)


def test_every_token_is_a_convex_combination_of_object_tokens(selector, make_evidence):
    evidence = make_evidence()
    torch.nn.init.normal_(selector.query.weight)
    weights = selector.attention(evidence, torch.rand(3, 12) * evidence.valid)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 5), atol=1e-4, rtol=0)
    valid = torch.stack([evidence.valid[:2].flatten(), torch.cat([evidence.valid[2], torch.zeros(12).bool()])])
    assert weights.mT[~valid].abs().sum() == 0


def test_content_and_amount_of_padding_change_nothing(selector, make_evidence):
    short, long = make_evidence(), make_evidence(num_tokens=16)
    torch.nn.init.normal_(selector.query.weight)
    scores = torch.rand(3, 12) * short.valid
    projected = torch.randn(3, 12, 5)
    long_projected = torch.cat([projected, torch.full((3, 4, 5), float("nan"))], dim=1)
    got = selector(long, torch.nn.functional.pad(scores, (0, 4)), long_projected)
    torch.testing.assert_close(got, selector(short, scores, projected), atol=1e-5, rtol=1e-5)


def test_a_view_of_padding_alone_gives_zeros(selector, make_evidence):
    evidence = make_evidence()
    evidence.valid[2] = False
    tokens = selector(evidence, torch.where(evidence.valid, 0.5, 0.0), torch.randn(3, 12, 5))
    assert tokens[1].abs().sum() == 0
    assert tokens.isfinite().all()


def test_a_tile_of_padding_alone_leaves_its_view_to_the_others(selector, make_evidence):
    evidence = make_evidence()
    evidence.valid[0] = False
    weights = selector.attention(evidence, torch.where(evidence.valid, 0.5, 0.0))
    assert weights[0, :, :12].abs().sum() == 0
    torch.testing.assert_close(weights[0].sum(dim=-1), torch.ones(5), atol=1e-4, rtol=0)
