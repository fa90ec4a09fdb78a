"""Token scores of each source, by formula and by invariance."""

import dataclasses

import pytest
import torch

from velm_train.core.errors import ConfigError
from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.matching import LookTwiceFeatureMatching
from velm_train.models.look_twice.sources import TokenScores, centre_scores, random_scores


def _scores(source, *, score_noise=0.0):
    matching = None
    if source in ("learned", "fused"):
        with seeded_init(3, "matching"):
            matching = LookTwiceFeatureMatching(level_dim=8, final_dim=20, num_levels=2, dim=6)
    return TokenScores(source=source, matching=matching, steepness=4.0, prior_weight=0.5, score_noise=score_noise)


def test_map_score_is_one_half_at_the_pixel_threshold_and_steep_around_it(make_evidence):
    evidence = make_evidence()
    evidence.map_scores[1, :4] = torch.tensor([0.0, 1.0, 2.0, 1e30])
    scores = _scores("map")(evidence)
    expected = [1 / (1 + 2.718281828**4), 0.5, 1 / (1 + 2.718281828**-4), 1.0]
    assert scores[1, :4].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("source", ["map", "learned", "fused", "random", "centre"])
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
        **{
            name: getattr(padded, name)[2:]
            for name in ("final", "grid_hw", "is_global", "valid", "map_scores", "tile_xyxy")
        },
        levels=padded.levels[:, 2:],
        view_index=torch.tensor([0]),
    )
    assert torch.equal(random_scores(evidence)[2], random_scores(alone)[0, :12])


def test_centre_scores_fall_with_the_distance_from_the_middle_of_the_view(make_evidence):
    scores = centre_scores(make_evidence())
    # 4 x 3 tokens: the middle of token 0 lies at (1/6, 1/8), token 4 at (1/2, 3/8); half diagonal sqrt(1/2)
    half = 0.5**0.5
    assert scores[2, 11].item() == pytest.approx(1 - ((1 / 3) ** 2 + (3 / 8) ** 2) ** 0.5 / half)
    assert scores[2, 4].item() == pytest.approx(1 - (1 / 8) / half)
    assert scores[2, 0] == 0  # padding
    # the crop shows the upper right: its lower left token is nearest to the middle
    assert scores[0].argmax() == 3


def test_centre_scores_read_nothing_but_the_grid(make_evidence):
    evidence, other = make_evidence(seed=0), make_evidence(seed=1)
    assert torch.equal(centre_scores(evidence), centre_scores(other))


def test_a_single_token_is_the_centre(make_evidence):
    evidence = dataclasses.replace(make_evidence(), grid_hw=torch.ones(3, 2, dtype=torch.long), tile_xyxy=None)
    evidence.valid[:, 0] = True
    assert centre_scores(evidence)[:, 0].tolist() == [1.0, 1.0, 1.0]


def test_oracle_scores_are_the_ground_truth_and_one_half_where_nobody_knows(make_evidence):
    evidence = make_evidence()
    gt_scores = torch.rand(3, 12)
    gt_scores[1, 5] = float("nan")
    gt_scores[2, 0] = float("nan")  # padding
    scores = _scores("oracle")(dataclasses.replace(evidence, gt_scores=gt_scores))
    assert torch.equal(scores[0, :6], gt_scores[0, :6])
    assert scores[0, 6:].tolist() == [0.0] * 6
    assert (scores[1, 5], scores[2, 0]) == (0.5, 0.0)


def test_oracle_without_ground_truth_is_refused_in_one_line(make_evidence):
    with pytest.raises(ConfigError, match="source is 'oracle', but these views come without ground-truth masks"):
        _scores("oracle")(make_evidence())


@pytest.mark.parametrize("source", ["map", "learned", "fused", "random", "centre"])
def test_no_other_source_reads_the_ground_truth(source, make_evidence):
    evidence, scores = make_evidence(), _scores(source)
    told = dataclasses.replace(evidence, gt_scores=torch.rand(3, 12))
    assert torch.equal(scores(told), scores(evidence))


@pytest.mark.parametrize("source", ["learned", "fused"])
def test_noise_blurs_the_learned_logit_in_training_alone(source, make_evidence):
    evidence = make_evidence()
    noisy, plain = _scores(source, score_noise=1.5), _scores(source)
    assert torch.equal(noisy.eval()(evidence), plain(evidence))
    torch.manual_seed(0)
    draws = torch.stack([torch.logit(noisy.train()(evidence)[1]) for _ in range(400)])
    assert draws.std(dim=0).mean().item() == pytest.approx(1.5, rel=0.05)
    torch.testing.assert_close(draws.mean(dim=0), torch.logit(plain(evidence)[1]), atol=0.4, rtol=0)
    assert noisy(evidence)[0, 6:].tolist() == [0.0] * 6
