"""One logit per view from the object tokens of its tiles."""

import torch

from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.scorer import ImageScorer


def _scorer():
    with seeded_init(5, "scorer"):
        return ImageScorer(feature_dim=20, dim=6)


def test_logits_equal_the_pooling_written_out(make_evidence):
    evidence, scorer = make_evidence(), _scorer()
    scores = torch.rand(3, 12) * evidence.valid
    logits = scorer(evidence, scores)
    for view, tiles in enumerate([(0, 1), (2,)]):
        pairs = [(t, n) for t in tiles for n in range(12) if evidence.valid[t, n]]
        weights = torch.stack([scores[t, n] for t, n in pairs])
        features = torch.stack([scorer.norm(evidence.final[t, n]) for t, n in pairs])
        mean_feature = (weights[:, None] * features).sum(0) / weights.sum()
        pooled = torch.cat([mean_feature, weights.max()[None], weights.mean()[None]])
        torch.testing.assert_close(logits[view], scorer.mlp(pooled)[0], atol=1e-4, rtol=1e-4)


def test_a_view_is_scored_by_its_own_tiles_alone(make_evidence):
    evidence, scorer = make_evidence(), _scorer()
    scores = torch.rand(3, 12) * evidence.valid
    before = scorer(evidence, scores)
    evidence.final[2] += torch.randn(20)
    after = scorer(evidence, scores)
    assert before[0] == after[0]
    assert before[1] != after[1]
