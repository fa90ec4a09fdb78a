"""Token scores of each source, by formula and by invariance."""

import dataclasses

import pytest
import torch

from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.matching import LookTwiceFeatureMatching
from velm_train.models.look_twice.sources import TokenScores, random_scores


def _scores(source):
    matching = None
    if source in ("learned", "fused"):
        with seeded_init(3, "matching"):
            matching = LookTwiceFeatureMatching(level_dim=8, final_dim=20, num_levels=2, dim=6)
    return TokenScores(source=source, matching=matching, steepness=4.0, prior_weight=0.5)


def test_map_score_is_one_half_at_the_pixel_threshold_and_steep_around_it(make_evidence):
    evidence = make_evidence()
    evidence.map_scores[1, :4] = torch.tensor([0.0, 1.0, 2.0, 1e30])
    scores = _scores("map")(evidence)
    expected = [1 / (1 + 2.718281828**4), 0.5, 1 / (1 + 2.718281828**-4), 1.0]
    assert scores[1, :4].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("source", ["map", "learned", "fused", "random"])
def test_scores_lie_between_zero_and_one_and_are_zero_on_padding(source, make_evidence):
    evidence = make_evidence(num_tokens=14)
    scores = _scores(source)(evidence)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores[0, 6:].abs().sum() == 0
    assert scores[2, 0] == 0
    assert (scores[1, :12] > 0).all()


def test_a_view_without_a_map_is_scored_uniformly(make_evidence):
    evidence = make_evidence()
    evidence.map_scores[2] = 0.0
    scores = _scores("map")(evidence)
    assert scores[2, 1:].tolist() == [0.5] * 11


def test_one_tile_with_a_map_gives_the_whole_view_a_map(make_evidence):
    evidence = make_evidence()
    evidence.map_scores[0] = 0.0
    assert _scores("map")(evidence)[0, 0] == pytest.approx(0.0179862)


def test_a_map_on_padding_alone_is_no_map(make_evidence):
    evidence = make_evidence()
    evidence.map_scores[2] = 0.0
    evidence.map_scores[2, 0] = 3.0
    assert _scores("map")(evidence)[2, 1] == 0.5


def test_fused_adds_the_weighted_map_logit_to_the_learned_one(make_evidence):
    evidence = make_evidence()
    learned, fused = _scores("learned")(evidence), _scores("fused")(evidence)
    expected = torch.sigmoid(torch.logit(learned[1]) + 0.5 * 4.0 * (evidence.map_scores[1] - 1))
    torch.testing.assert_close(fused[1], expected)


def test_fused_equals_learned_without_a_map(make_evidence):
    evidence = make_evidence()
    evidence.map_scores.zero_()
    torch.testing.assert_close(_scores("fused")(evidence), _scores("learned")(evidence))


def test_random_scores_repeat_and_differ_between_views(make_evidence):
    evidence = make_evidence()
    first, second = random_scores(evidence), random_scores(evidence)
    assert torch.equal(first, second)
    assert not torch.equal(first[1, 1:], first[2, 1:])
    assert first[1].unique().numel() == 12


def test_random_scores_of_a_view_do_not_depend_on_the_batch_or_the_padding(make_evidence):
    evidence, padded = make_evidence(), make_evidence(num_tokens=17)
    alone = dataclasses.replace(
        padded,
        **{name: getattr(padded, name)[2:] for name in ("final", "grid_hw", "is_global", "valid", "map_scores")},
        levels=padded.levels[:, 2:],
        view_index=torch.tensor([0]),
    )
    assert torch.equal(random_scores(evidence)[2], random_scores(alone)[0, :12])
