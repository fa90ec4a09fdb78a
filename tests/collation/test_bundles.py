"""Bundles of samples, and batches of them: every row as by itself, views once; batches without any view."""

import dataclasses

import pytest
import torch

from velm_train.collation.bundles import bundle_of
from velm_train.collation.collate import collate, view_anomalous_by_answer
from velm_train.core.batch import Bundle


@pytest.fixture
def features_of(one_tile):
    def make(view):
        value = {"reference": 1.0, "crop": 3.0}[view.kind]
        full = torch.full((6, 5), value).numpy()
        return one_tile(full, full[None], full[:, 0], grid_hw=(2, 3))

    return make


@pytest.fixture
def encoded(renderer, make_sample):
    """Two questions about the same views, then one about another."""
    samples = [
        make_sample("scratch", kinds=("reference", "crop"), text="Which is it?", number=0),
        make_sample("scratch", kinds=("reference", "crop"), text="Name the defect on this brick.", number=1),
        make_sample("no defect", kinds=("crop",), answer="good", image_defect_type="good", number=2),
    ]
    return [renderer.encode(sample) for sample in samples]


def num_common(first, second):
    pairs = zip(first.input_ids, second.input_ids, strict=False)
    return next(place for place, (one, other) in enumerate(pairs) if one != other)


def collated(encoded, features_of, bundles=None):
    return collate(
        encoded,
        features=features_of,
        pad_token_id=2,
        view_anomalous=view_anomalous_by_answer,
        max_tokens=80,
        bundles=bundles,
    )


def test_a_bundle_knows_its_lengths_and_what_it_shares(encoded):
    shared = num_common(*encoded[:2])
    bundle = bundle_of(encoded[:2], num_shared=shared)
    assert bundle == Bundle(lengths=tuple(len(one.input_ids) for one in encoded[:2]), num_shared=shared)
    assert bundle.num_tokens == shared + sum(len(one.input_ids) - shared for one in encoded[:2])
    with pytest.raises(AssertionError):
        bundle_of(encoded[:2], num_shared=shared + 1)


def test_a_batch_of_bundles_has_the_rows_of_any_other_and_the_views_of_a_bundle_once(encoded, features_of):
    shared = num_common(*encoded[:2])
    bundles = [bundle_of(encoded[:2], num_shared=shared), bundle_of(encoded[2:], num_shared=0)]
    batch, plain = collated(encoded, features_of, bundles), collated(encoded, features_of)
    for name in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(getattr(batch, name), getattr(plain, name)), name
    assert (len(plain.evidence.final), len(batch.evidence.final)) == (5, 3)
    assert batch.evidence.final[:, 0, 0].tolist() == [1.0, 3.0, 3.0]
    assert batch.view_sample.tolist() == [0, 0, 2]
    assert batch.first_rows == [0, 2]
    assert batch.view_weight.tolist() == [2.0, 2.0, 1.0]
    assert batch.view_anomalous.tolist() == [0.0, 1.0, 0.0]
    assert plain.first_rows == [0, 1, 2]
    assert plain.view_weight.tolist() == [1.0] * 5
    assert batch.to(torch.device("cpu")).bundles == batch.bundles


def test_samples_without_any_view_make_a_batch(encoded, renderer, make_sample):
    words = renderer.encode(dataclasses.replace(make_sample(kinds=()), views=()))

    def no_features(view):
        raise AssertionError(view)

    batch = collated([words], no_features, [bundle_of([words], num_shared=0)])
    assert batch.input_ids.tolist() == [list(words.input_ids)]
    assert (len(batch.view_sample), len(batch.view_anomalous), len(batch.evidence.final)) == (0, 0, 0)
    assert batch.view_weight.shape == (0,)
