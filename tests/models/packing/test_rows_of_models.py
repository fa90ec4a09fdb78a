"""Loss and gradients of a row are those of samples computed side by side, for the embedded model and every family."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch

from velm_train.core.batch import IGNORE_INDEX, NO_VIEWS, Batch, Bundle
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.families.build import FamilyName, assemble_family
from velm_train.models.families.tiny import build_tiny
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.models.packing.attention import row_attention
from velm_train.models.recompute import keep_activations, recompute_activations

FUSED = LookTwiceSettings(source="fused", dim=16)
MODELS = ("embedded", *get_args(FamilyName))
SIZES = {"one": [(100, 150)], "two": [(60, 56), (150, 40)], "small": [(60, 100)], "none": []}
SHORT, MIDDLE, LONG = [11, 3, 7], [5, 9, 12, 4, 8, 6], [4, 13, 5, 17, 6, 3, 9, 8, 10, 21]

UNEVEN = [("one", [MIDDLE]), ("two", [SHORT]), ("small", [LONG])]
SHARED = [("two", [MIDDLE, LONG, SHORT]), ("one", [SHORT]), ("small", [LONG, MIDDLE])]
WORDS_ALONE = [("none", [MIDDLE]), ("none", [LONG])]
SOME_WORDS_ALONE = [("none", [LONG]), ("two", [SHORT, MIDDLE])]


@pytest.fixture(params=MODELS)
def model(request, make_model, trained):
    """Dropout is 0: in a row the same draw would meet other values."""
    lora = LoraSettings(r=4, alpha=8.0, dropout=0.0)
    if request.param == "embedded":
        built = make_model(look_twice=FUSED, lora=lora)
    else:
        built = assemble_family(
            build_tiny(request.param), look_twice=FUSED, lora=lora, seed=0, train_projector=request.param != "smolvlm"
        )
    return trained(built).train()


def pictures_of(name):
    rng = np.random.default_rng(len(name))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES[name]]


def batch_of(model, groups, *, bundled):
    """Rows "1 <view> ... words", the last two tokens of each supervised; a group's views once if bundled."""
    rows, views, view_sample, view_anomalous, bundles = [], [], [], [], []
    for name, questions in groups:
        pictures = pictures_of(name)
        first_word = 0 if isinstance(model, EmbeddedVLM) else 200  # a family's special tokens come before
        start = [first_word + 1]
        start += [token for picture in pictures for token in model.view_token_ids(picture.shape[:2])]
        for number, words in enumerate([first_word + word for word in question] for question in questions):
            if number == 0 or not bundled:
                views += pictures
                view_sample += [len(rows)] * len(pictures)
                view_anomalous += [float(len(name) % 2)] * len(pictures)
            rows.append([*start, *words])
        lengths = tuple(len(start) + len(words) for words in questions)
        bundles.append(Bundle(lengths=lengths, num_shared=len(start) if len(questions) > 1 else 0))
    width = max(map(len, rows))
    input_ids = torch.tensor([row + [2] * (width - len(row)) for row in rows])
    real = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
    answer = real & ~torch.nn.functional.pad(real, (0, 2))[:, 2:]
    return Batch(
        input_ids=input_ids,
        attention_mask=real.long(),
        labels=torch.where(answer, input_ids, IGNORE_INDEX),
        evidence=_with_maps(model.encode_views(views)) if views else NO_VIEWS,
        view_sample=torch.tensor(view_sample, dtype=torch.long),
        view_anomalous=torch.tensor(view_anomalous),
        sample_ids=tuple(map(str, range(len(rows)))),
        bundles=tuple(bundles) if bundled else None,
    )


def _with_maps(evidence):
    places = torch.arange(evidence.map_scores.shape[1]) / evidence.map_scores.shape[1]
    return dataclasses.replace(evidence, map_scores=evidence.valid * (0.5 + places))


def loss_and_gradients(model, batch):
    learning = {name: one for name, one in model.named_parameters() if one.requires_grad}
    output = model.training_output(batch)
    loss = output.language_loss_sum
    if output.image_logits is not None:
        loss = loss + (batch.view_weight * (1 + batch.view_anomalous) * output.image_logits).sum()
        of_views = torch.zeros(len(batch.view_sample)).index_add(
            0, batch.evidence.view_index, (output.token_scores**2 * batch.evidence.valid).mean(dim=1)
        )
        loss = loss + (batch.view_weight * of_views).sum()
    gradients = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
    return loss, output.num_supervised, dict(zip(learning, gradients, strict=True))


def assert_same(model, groups):
    expected_loss, expected_count, expected = loss_and_gradients(model, batch_of(model, groups, bundled=False))
    with row_attention(model.decoder):
        loss, count, gradients = loss_and_gradients(model, batch_of(model, groups, bundled=True))
    assert count == expected_count == 2 * sum(len(questions) for _, questions in groups)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    # Some gradients are 0 but for rounding, as that of a bias in front of a softmax: they may differ by a trace of all.
    trace = 1e-6 * float(torch.nn.utils.get_total_norm([one for one in expected.values() if one is not None]))
    for name, gradient in gradients.items():
        other = expected[name]
        if other is None or gradient is None:
            assert (gradient is None) == (other is None), name
            continue
        assert float((gradient - other).norm()) <= 1e-4 * float(other.norm()) + trace, name


@pytest.mark.parametrize(
    "groups",
    [UNEVEN, SHARED, WORDS_ALONE, SOME_WORDS_ALONE],
    ids=["packed", "shared", "words alone", "some words alone"],
)
def test_a_row_gives_the_loss_and_gradients_of_samples_side_by_side(model, groups):
    assert_same(model, groups)


def test_blocks_that_compute_their_activations_again_keep_samples_apart(model):
    recompute_activations(model.decoder)
    try:
        assert_same(model, SHARED)
    finally:
        keep_activations(model.decoder)


def test_without_the_layout_the_samples_of_a_row_would_mix(model):
    """What the comparison above is for: the same row taken for one long sample has another loss."""
    expected, _, _ = loss_and_gradients(model, batch_of(model, UNEVEN, bundled=False))
    batch = batch_of(model, UNEVEN, bundled=True)
    real = batch.attention_mask.bool()
    one_sample = dataclasses.replace(
        batch,
        input_ids=batch.input_ids[real][None],
        attention_mask=batch.attention_mask[real][None],
        labels=batch.labels[real][None],
        view_sample=torch.zeros_like(batch.view_sample),
        bundles=(Bundle(lengths=(int(real.sum()),)),),
    )
    with row_attention(model.decoder):
        mixed, _, _ = loss_and_gradients(model, one_sample)
    assert abs(mixed.item() - expected.item()) > 1e-3 * abs(expected.item())
