"""Look-Twice Feature Matching against the equations written out token by token."""

import pytest
import torch
from torch.nn import functional as F

from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.matching import LookTwiceFeatureMatching


@pytest.fixture
def matching():
    with seeded_init(3, "matching"):
        return LookTwiceFeatureMatching(level_dim=8, final_dim=20, num_levels=2, dim=6)


def _margin_written_out(matching, evidence, *, level, tile, token):
    global_tile = {0: 1, 1: 1, 2: 2}[tile]
    real = [n for n in range(12) if evidence.valid[global_tile, n]]
    features = torch.stack([matching.final_norm(evidence.final[global_tile, n]) for n in real])
    weights = torch.stack([matching.class_attention(f)[0] for f in features]).softmax(0)
    class_vector = matching.class_predictor(sum(w * f for w, f in zip(weights, features, strict=True)))
    u = matching.level_adaptors[level](matching.level_norms[level](evidence.levels[level, tile, token]))
    cosines = []
    for embedding in (matching.anomalous_embedding, matching.normal_embedding):
        direction = matching.prompt_adaptors[level](torch.cat([embedding, class_vector]))
        cosines.append(F.cosine_similarity(u, direction, dim=0))
    return matching.scale * (cosines[0] - cosines[1])


def test_margins_equal_the_equations_written_out(matching, make_evidence):
    evidence = make_evidence()
    margins = matching.margins(evidence)
    for level, tile, token in [(0, 0, 0), (1, 0, 5), (0, 1, 11), (1, 2, 3)]:
        expected = _margin_written_out(matching, evidence, level=level, tile=tile, token=token)
        torch.testing.assert_close(margins[level, tile, token], expected, atol=1e-5, rtol=1e-5)


def test_significance_is_the_mean_of_sigmoids_and_zero_on_padding(matching, make_evidence):
    evidence = make_evidence()
    significance = matching(evidence)
    expected = matching.margins(evidence).sigmoid().mean(0)
    torch.testing.assert_close(significance[1], expected[1])
    assert significance[0, 6:].tolist() == [0.0] * 6
    assert significance[2, 0] == 0.0


def test_scores_start_near_one_half(matching, make_evidence):
    significance = matching(make_evidence())
    assert (significance[1] - 0.5).abs().max() < 0.25


def test_content_of_padding_changes_nothing(matching, make_evidence):
    short, long = make_evidence(), make_evidence(num_tokens=15)
    long.final[~long.valid] = -7.0
    long.levels[:, ~long.valid] = 5.0
    torch.testing.assert_close(matching(long)[:, :12], matching(short), atol=1e-6, rtol=0)


def test_crops_are_judged_against_the_global_tile_of_their_own_view(matching, make_evidence):
    evidence = make_evidence()
    before = matching(evidence)
    evidence.final[1] += torch.randn(20)
    after = matching(evidence)
    assert not torch.equal(before[0], after[0])
    torch.testing.assert_close(before[2], after[2])
