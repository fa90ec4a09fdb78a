"""Batches: shapes, padding, evidence in placeholder order, and refusal instead of truncation."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from velm_train.collation.collate import ViewFeatures, collate, split_views, stack_views, view_anomalous_by_answer
from velm_train.core.batch import IGNORE_INDEX
from velm_train.core.errors import DataError

NUM_TOKENS, FINAL_WIDTH, NUM_LEVELS, LEVEL_WIDTH = 6, 5, 2, 3
VALUES = {"reference": 1.0, "query": 2.0, "crop": 3.0}


@pytest.fixture
def features_of(one_tile):
    def make(view):
        value = VALUES[view.kind]
        levels = [np.full((NUM_TOKENS, LEVEL_WIDTH), value + 10 * i, np.float16) for i in range(NUM_LEVELS)]
        return one_tile(
            np.full((NUM_TOKENS, FINAL_WIDTH), value, dtype=np.float16),
            np.stack(levels),
            np.arange(NUM_TOKENS, dtype=np.float32) * value,
            grid_hw=(2, 3),
        )

    return make


@pytest.fixture
def batch(renderer, make_sample, features_of):
    samples = [
        make_sample(kinds=("reference", "crop"), number=0),
        make_sample("no defect", kinds=("query",), answer="good", image_defect_type="good", number=1),
    ]
    return collate(
        [renderer.encode(sample) for sample in samples],
        features=features_of,
        pad_token_id=2,
        view_anomalous=view_anomalous_by_answer,
        max_tokens=64,
    )


def test_rows_are_padded_on_the_right_and_padding_has_no_loss(batch, renderer, make_sample):
    long = renderer.encode(make_sample(kinds=("reference", "crop")))
    short = renderer.encode(make_sample("no defect", kinds=("query",)))
    num_long, num_short = len(long.input_ids), len(short.input_ids)
    assert num_short < num_long
    assert batch.input_ids.shape == batch.attention_mask.shape == batch.labels.shape == (2, num_long)
    assert batch.input_ids[0].tolist() == list(long.input_ids)
    assert batch.input_ids[1].tolist() == [*short.input_ids, *[2] * (num_long - num_short)]
    assert batch.labels[1].tolist() == [*short.labels, *[IGNORE_INDEX] * (num_long - num_short)]
    assert batch.attention_mask.sum(dim=1).tolist() == [num_long, num_short]
    assert batch.attention_mask[1, :num_short].all()


def test_the_stop_token_keeps_its_loss_although_it_is_the_padding_token(batch):
    last_real = int(batch.attention_mask[1].sum()) - 1
    assert batch.labels[1, last_real] == 2


def test_views_stand_in_the_order_of_their_placeholders(batch):
    evidence = batch.evidence
    assert batch.view_sample.tolist() == [0, 0, 1]
    assert evidence.view_index.tolist() == [0, 1, 2]
    assert evidence.final[:, 0, 0].tolist() == [1.0, 3.0, 2.0]
    assert evidence.levels[:, :, 0, 0].tolist() == [[1.0, 3.0, 2.0], [11.0, 13.0, 12.0]]
    assert evidence.map_scores[1].tolist() == [0.0, 3.0, 6.0, 9.0, 12.0, 15.0]
    assert batch.sample_ids == ("textures/brick/crop.png#0/name_type/0", "textures/brick/crop.png#0/name_type/1")


def test_evidence_has_one_global_float32_tile_per_view(batch):
    evidence = batch.evidence
    assert evidence.final.shape == (3, NUM_TOKENS, FINAL_WIDTH)
    assert evidence.levels.shape == (NUM_LEVELS, 3, NUM_TOKENS, LEVEL_WIDTH)
    assert evidence.map_scores.shape == (3, NUM_TOKENS)
    assert {evidence.final.dtype, evidence.levels.dtype, evidence.map_scores.dtype} == {torch.float32}
    assert evidence.grid_hw.tolist() == [[2, 3]] * 3
    assert evidence.is_global.all()
    assert evidence.valid.all()


def test_tokens_beyond_the_grid_are_not_valid(one_tile):
    final, levels, map_scores = (np.zeros(shape, np.float32) for shape in ((6, 1), (1, 6, 1), (6,)))
    views = [one_tile(final, levels, map_scores, grid_hw=grid_hw) for grid_hw in ((2, 3), (2, 2))]
    assert stack_views(views).valid.tolist() == [[True] * 6, [True] * 4 + [False] * 2]


def test_the_number_of_placeholders_matches_the_number_of_views(batch, renderer):
    counts = (batch.input_ids == renderer.image_id).sum(dim=1).tolist()
    views_per_row = torch.bincount(batch.view_sample).tolist()
    assert counts == [renderer.num_first_look * num for num in views_per_row]


def test_a_sample_longer_than_the_limit_is_refused_by_name_and_never_cut(renderer, make_sample, features_of):
    encoded = renderer.encode(make_sample(number=7))
    length = len(encoded.input_ids)

    def run(max_tokens):
        return collate(
            [encoded],
            features=features_of,
            pad_token_id=2,
            view_anomalous=view_anomalous_by_answer,
            max_tokens=max_tokens,
        )

    assert run(length).input_ids.shape == run(None).input_ids.shape == (1, length)
    with pytest.raises(DataError, match=rf"name_type/7: {length} tokens, more than max_tokens={length - 1}"):
        run(length - 1)


KINDS = ("reference", "crop", "query", "query_contour")


@pytest.mark.parametrize(
    ("answer", "image_defect_type", "expected"),
    [
        ("scratch", "scratch", (0.0, 1.0, 1.0, 1.0)),
        ("good", "good", (0.0, 0.0, 0.0, 0.0)),
        ("good", "scratch", (0.0, 0.0, 1.0, 1.0)),  # a false alarm on an image whose defect lies elsewhere
    ],
)
def test_views_are_anomalous_by_what_they_show(make_sample, answer, image_defect_type, expected):
    sample = make_sample(kinds=KINDS, answer=answer, image_defect_type=image_defect_type)
    assert view_anomalous_by_answer(sample) == expected


def test_an_unlisted_type_is_anomalous_although_none_of_these_is_the_answer(make_sample):
    assert view_anomalous_by_answer(make_sample("none of these", answer="dent")) == (1.0,)


def test_views_of_unknown_truth_are_not_scored(make_sample):
    reference, *others = view_anomalous_by_answer(make_sample("", kinds=KINDS, answer="unknown"))
    assert reference == 0.0
    assert all(math.isnan(value) for value in others)


def test_values_of_the_views_reach_the_batch(batch):
    assert batch.view_anomalous.tolist() == [0.0, 1.0, 0.0]


@pytest.fixture
def view_of(one_tile):
    def make(rows, columns, *, value, gt_scores=None):
        num_tokens = rows * columns
        levels = np.arange(NUM_LEVELS * num_tokens * LEVEL_WIDTH, dtype=np.float32)
        return one_tile(
            np.full((num_tokens, FINAL_WIDTH), value, dtype=np.float16),
            levels.reshape(NUM_LEVELS, num_tokens, -1),
            np.full(num_tokens, value, dtype=np.float32),
            grid_hw=(rows, columns),
            gt_scores=gt_scores,
        )

    return make


def test_views_of_unequal_grids_are_padded_and_marked(view_of):
    large, small = view_of(2, 4, value=1.0), view_of(3, 2, value=2.0)
    evidence = stack_views([large, small])
    assert evidence.final.shape == (2, 8, FINAL_WIDTH)
    assert evidence.levels.shape == (NUM_LEVELS, 2, 8, LEVEL_WIDTH)
    assert evidence.valid.sum(dim=1).tolist() == [8, 6]
    assert evidence.map_scores[1].tolist() == [2.0] * 6 + [0.0] * 2
    for row, view in enumerate((large, small)):
        num_tokens = view.final.shape[1]
        assert torch.equal(evidence.levels[:, row : row + 1, :num_tokens], view.levels)
        assert evidence.levels[:, row, num_tokens:].abs().sum() == 0
        assert torch.equal(evidence.final[row : row + 1, :num_tokens], view.final.float())


def test_ground_truth_is_there_for_all_views_or_for_none(view_of):
    truth = np.array([0.0, 0.25, np.nan, 1.0], dtype=np.float32)
    told = stack_views([view_of(2, 2, value=1.0, gt_scores=truth), view_of(2, 1, value=1.0, gt_scores=truth[:2])])
    assert told.gt_scores is not None
    assert np.array_equal(told.gt_scores.numpy(), [truth, [0.0, 0.25, 0.0, 0.0]], equal_nan=True)
    assert stack_views([view_of(2, 2, value=1.0)]).gt_scores is None
    with pytest.raises(AssertionError, match="read for some views of a batch and not for others"):
        stack_views([view_of(2, 2, value=1.0, gt_scores=truth), view_of(2, 2, value=1.0)])


def ragged(*, num_tiles, grid_hw, seed):
    """A view of equal tiles, the last of which shows all of it; its first token is padding."""
    generator = torch.Generator().manual_seed(seed)
    num_tokens = grid_hw[0] * grid_hw[1]
    valid = torch.ones(num_tiles, num_tokens, dtype=torch.bool)
    valid[-1, 0] = False
    return ViewFeatures(
        final=torch.randn(num_tiles, num_tokens, FINAL_WIDTH, generator=generator).bfloat16(),
        levels=torch.randn(NUM_LEVELS, num_tiles, num_tokens, LEVEL_WIDTH, generator=generator).bfloat16(),
        grid_hw=torch.tensor([grid_hw] * num_tiles),
        view_index=torch.zeros(num_tiles, dtype=torch.long),
        is_global=torch.arange(num_tiles) == num_tiles - 1,
        valid=valid,
        map_scores=torch.rand(num_tiles, num_tokens, generator=generator),
        tile_xyxy=torch.rand(num_tiles, 4, generator=generator),
        gt_scores=torch.rand(num_tiles, num_tokens, generator=generator),
    )


def test_views_of_several_tiles_are_joined_and_come_apart_again():
    views = [
        ragged(num_tiles=3, grid_hw=(2, 2), seed=0),
        ragged(num_tiles=1, grid_hw=(2, 4), seed=1),
        ragged(num_tiles=2, grid_hw=(3, 1), seed=2),
    ]
    evidence = stack_views(views)
    assert evidence.view_index.tolist() == [0, 0, 0, 1, 2, 2]
    assert evidence.is_global.tolist() == [False, False, True, True, False, True]
    assert evidence.final.shape == (6, 8, FINAL_WIDTH)
    assert evidence.valid.sum(dim=1).tolist() == [4, 4, 3, 7, 3, 2]
    assert evidence.final[0, 4:].abs().sum() == evidence.map_scores[0, 4:].abs().sum() == 0
    for view, again in zip(views, split_views(evidence), strict=True):
        for field in dataclasses.fields(view):
            expected, found = getattr(view, field.name), getattr(again, field.name)
            assert torch.equal(found, expected.to(found.dtype)), field.name


def test_boxes_of_tiles_are_known_for_all_views_or_for_none():
    with_boxes = ragged(num_tiles=2, grid_hw=(2, 2), seed=0)
    with pytest.raises(AssertionError, match="the boxes of tiles are known for some views"):
        stack_views([with_boxes, dataclasses.replace(with_boxes, tile_xyxy=None)])
