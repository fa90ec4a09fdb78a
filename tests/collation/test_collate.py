"""Batches: shapes, padding, evidence in placeholder order, and refusal instead of truncation."""

import math

import numpy as np
import pytest
import torch

from velm_train.collation.collate import ViewFeatures, collate, stack_views, view_anomalous_by_answer
from velm_train.core.batch import IGNORE_INDEX
from velm_train.core.errors import DataError

NUM_TOKENS, FINAL_WIDTH, NUM_LEVELS, LEVEL_WIDTH = 6, 5, 2, 3
VALUES = {"reference": 1.0, "query": 2.0, "crop": 3.0}


def features_of(view):
    value = VALUES[view.kind]
    return ViewFeatures(
        final=np.full((NUM_TOKENS, FINAL_WIDTH), value, dtype=np.float16),
        levels=np.stack([np.full((NUM_TOKENS, LEVEL_WIDTH), value + 10 * i, np.float16) for i in range(NUM_LEVELS)]),
        map_scores=np.arange(NUM_TOKENS, dtype=np.float32) * value,
        grid_hw=(2, 3),
    )


@pytest.fixture
def batch(renderer, make_sample):
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


def test_tokens_beyond_the_grid_are_not_valid():
    views = [
        ViewFeatures(
            final=np.zeros((6, 1), np.float32),
            levels=np.zeros((1, 6, 1), np.float32),
            map_scores=np.zeros(6, np.float32),
            grid_hw=grid_hw,
        )
        for grid_hw in ((2, 3), (2, 2))
    ]
    assert stack_views(views).valid.tolist() == [[True] * 6, [True] * 4 + [False] * 2]


def test_the_number_of_placeholders_matches_the_number_of_views(batch, renderer):
    counts = (batch.input_ids == renderer.image_id).sum(dim=1).tolist()
    views_per_row = torch.bincount(batch.view_sample).tolist()
    assert counts == [renderer.num_first_look * num for num in views_per_row]


def test_a_sample_longer_than_the_limit_is_refused_by_name_and_never_cut(renderer, make_sample):
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

    assert run(length).input_ids.shape == (1, length)
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


def view_of(rows, columns, *, value, gt_scores=None):
    num_tokens = rows * columns
    return ViewFeatures(
        final=np.full((num_tokens, FINAL_WIDTH), value, dtype=np.float16),
        levels=np.arange(NUM_LEVELS * num_tokens * LEVEL_WIDTH, dtype=np.float32).reshape(NUM_LEVELS, num_tokens, -1),
        map_scores=np.full(num_tokens, value, dtype=np.float32),
        grid_hw=(rows, columns),
        gt_scores=gt_scores,
    )


def test_views_of_unequal_grids_are_padded_and_marked():
    large, small = view_of(2, 4, value=1.0), view_of(3, 2, value=2.0)
    evidence = stack_views([large, small])
    assert evidence.final.shape == (2, 8, FINAL_WIDTH)
    assert evidence.levels.shape == (NUM_LEVELS, 2, 8, LEVEL_WIDTH)
    assert evidence.valid.sum(dim=1).tolist() == [8, 6]
    assert evidence.map_scores[1].tolist() == [2.0] * 6 + [0.0] * 2
    for row, view in enumerate((large, small)):
        num_tokens = len(view.final)
        assert np.array_equal(evidence.levels[:, row, :num_tokens].numpy(), view.levels)
        assert evidence.levels[:, row, num_tokens:].abs().sum() == 0
        assert np.array_equal(evidence.final[row, :num_tokens].numpy(), view.final.astype(np.float32))


def test_ground_truth_is_there_for_all_views_or_for_none():
    truth = np.array([0.0, 0.25, np.nan, 1.0], dtype=np.float32)
    told = stack_views([view_of(2, 2, value=1.0, gt_scores=truth), view_of(2, 1, value=1.0, gt_scores=truth[:2])])
    assert told.gt_scores is not None
    assert np.array_equal(told.gt_scores.numpy(), [truth, [0.0, 0.25, 0.0, 0.0]], equal_nan=True)
    assert stack_views([view_of(2, 2, value=1.0)]).gt_scores is None
    with pytest.raises(AssertionError, match="read for some views of a batch and not for others"):
        stack_views([view_of(2, 2, value=1.0, gt_scores=truth), view_of(2, 2, value=1.0)])
