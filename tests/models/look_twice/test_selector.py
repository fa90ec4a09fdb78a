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
    weights = selector.attention(evidence, _hot(evidence, tile=1, token=7))  # row 1, column 3 of 3 x 4
    assert weights[1, 0, 7].item() == pytest.approx(0.98 / (0.98 + 11 * 0.02), abs=1e-4)
    for number in (2, 4):  # the right-hand bins of both rows hold the cell
        assert weights[1, number, 7] > 0.8


def test_the_bins_keep_their_tokens_apart_at_the_start(selector, make_evidence):
    evidence = make_evidence()
    uniform = torch.where(evidence.valid, 0.5, 0.0)
    weights = selector.attention(evidence, uniform)[1]
    assert torch.pdist(weights[1:]).min() > 0.1


def test_the_global_token_is_the_score_weighted_mean(selector, make_evidence):
    evidence = make_evidence()
    scores = torch.rand(3, 12) * evidence.valid
    projected = torch.randn(3, 12, 5)
    tokens = selector(evidence, scores, projected)
    assert tokens.shape == (3, 5, 5)
    for tile in range(3):
        expected = (scores[tile, :, None] * projected[tile]).sum(0) / scores[tile].sum()
        torch.testing.assert_close(tokens[tile, 0], expected, atol=1e-4, rtol=1e-4)


def test_every_token_is_a_convex_combination_of_object_tokens(selector, make_evidence):
    evidence = make_evidence()
    torch.nn.init.normal_(selector.query.weight)
    weights = selector.attention(evidence, torch.rand(3, 12) * evidence.valid)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 5), atol=1e-4, rtol=0)
    assert weights.mT[~evidence.valid].abs().sum() == 0


def test_content_and_amount_of_padding_change_nothing(selector, make_evidence):
    short, long = make_evidence(), make_evidence(num_tokens=16)
    torch.nn.init.normal_(selector.query.weight)
    scores = torch.rand(3, 12) * short.valid
    projected = torch.randn(3, 12, 5)
    long_projected = torch.cat([projected, torch.full((3, 4, 5), float("nan"))], dim=1)
    got = selector(long, torch.nn.functional.pad(scores, (0, 4)), long_projected)
    torch.testing.assert_close(got, selector(short, scores, projected), atol=1e-5, rtol=1e-5)


def test_a_tile_of_padding_alone_gives_zeros(selector, make_evidence):
    evidence = make_evidence()
    evidence.valid[0] = False
    tokens = selector(evidence, torch.where(evidence.valid, 0.5, 0.0), torch.randn(3, 12, 5))
    assert tokens[0].abs().sum() == 0
    assert tokens.isfinite().all()
