"""Rows of several views and tiles, padding on either side, and generation with a cache."""

import dataclasses

import pytest
import torch

from velm_train.core.batch import IGNORE_INDEX
from velm_train.models.look_twice.adapter import LookTwiceSettings

SOURCES = ["map", "learned", "fused", "random", "centre", "oracle", "off"]
EVERY_FORM = [LookTwiceSettings(source=source, dim=16) for source in SOURCES]
EVERY_FORM += [LookTwiceSettings(source="learned", form="published", dim=16)]


@pytest.mark.parametrize("look_twice", EVERY_FORM, ids=lambda settings: f"{settings.form}-{settings.source}")
def test_padding_on_the_left_gives_the_loss_of_padding_on_the_right(look_twice, make_model, trained, make_batch):
    model = trained(make_model(look_twice=look_twice))
    right = make_batch(model, answer=3)
    truth = torch.rand(right.evidence.valid.shape)
    right = dataclasses.replace(right, evidence=dataclasses.replace(right.evidence, gt_scores=truth))
    left = _padded_on_the_left(right)
    torch.testing.assert_close(
        model.training_output(left).language_loss_sum, model.training_output(right).language_loss_sum
    )


def test_padding_on_the_left_gives_the_scores_and_answers_of_padding_on_the_right(make_model, trained, make_batch):
    model = trained(make_model())
    right = make_batch(model)
    left = _padded_on_the_left(right)
    options = [[[5, 6], [7]], [[8, 9, 10]], [[11], [12, 13]]]
    scores = [model.option_log_likelihoods(batch, options=options) for batch in (left, right)]
    assert all(torch.equal(*rows) for rows in zip(*scores, strict=True))
    assert model.generate(left, max_new_tokens=4) == model.generate(right, max_new_tokens=4)


def _padded_on_the_left(right):
    shifts = (right.attention_mask == 0).sum(dim=1).tolist()
    moved = {
        name: torch.stack([row.roll(shift) for row, shift in zip(getattr(right, name), shifts, strict=True)])
        for name in ("input_ids", "attention_mask", "labels")
    }
    left = dataclasses.replace(right, **moved)
    assert left.attention_mask[1, 0] == 0
    return left


def _tiled(batch):
    """Two views to a row, the second of a smaller grid, the first with a crop of its lower right."""
    generator = torch.Generator().manual_seed(3)
    final, levels = batch.evidence.final, batch.evidence.levels
    noise = torch.randn(3, 2, *final.shape[1:], generator=generator)  # a crop and a second view for each row
    level_noise = torch.randn(len(levels), 3, 2, *levels.shape[2:], generator=generator)
    tile_final = torch.stack([noise[:, 0], final, noise[:, 1]], dim=1).flatten(0, 1)
    tile_levels = torch.stack([level_noise[:, :, 0], levels, level_noise[:, :, 1]], dim=2).flatten(1, 2)
    grid_hw = torch.tensor([[2, 3], [4, 4], [3, 5]] * 3)
    whole, crop = [0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0]
    valid = torch.arange(16) < grid_hw.prod(dim=1, keepdim=True)
    return dataclasses.replace(
        batch.evidence,
        final=tile_final.masked_fill(~valid[..., None], 99.0),
        levels=tile_levels,
        grid_hw=grid_hw,
        view_index=torch.tensor([0, 0, 1, 2, 2, 3, 4, 4, 5]),
        is_global=torch.tensor([False, True, True] * 3),
        valid=valid,
        map_scores=2 * torch.rand(9, 16, generator=generator),
        tile_xyxy=torch.tensor([crop, whole, whole] * 3),
        gt_scores=torch.rand(9, 16, generator=generator),
    )


def _two_views_a_row(model, batch):
    visual = [model.image_token_id] * model.num_first_look + [model.inspect_token_id] * model.num_second_look
    extra = torch.tensor([[7, *visual]] * 3)
    more = {
        "input_ids": torch.cat([batch.input_ids[:, :1], extra, batch.input_ids[:, 1:]], dim=1),
        "attention_mask": torch.cat([torch.ones_like(extra), batch.attention_mask], dim=1),
        "labels": torch.cat([torch.full_like(extra, IGNORE_INDEX), batch.labels], dim=1),
    }
    views = {"view_sample": torch.tensor([0, 0, 1, 1, 2, 2]), "view_anomalous": torch.zeros(6)}
    return dataclasses.replace(batch, evidence=_tiled(batch), **more, **views)


@pytest.mark.parametrize("source", SOURCES)
def test_rows_of_several_views_of_several_tiles_do_not_depend_on_their_neighbours(
    source, make_model, trained, make_batch
):
    model = trained(make_model(look_twice=LookTwiceSettings(source=source, dim=16)))
    batch = _two_views_a_row(model, make_batch(model, answer=2))
    together = model.embed(batch)[0]
    parts = {field.name: getattr(batch.evidence, field.name) for field in dataclasses.fields(batch.evidence)}
    parts = {name: part[:, 6:] if name == "levels" else part[6:] for name, part in parts.items()}
    alone = dataclasses.replace(
        batch,
        evidence=type(batch.evidence)(**parts | {"view_index": torch.tensor([0, 0, 1])}),
        **{name: getattr(batch, name)[2:] for name in ("input_ids", "attention_mask", "labels")},
    )
    torch.testing.assert_close(model.embed(alone)[0][0], together[2], atol=1e-5, rtol=1e-5)
    assert model.training_output(batch).language_loss_sum.isfinite()


def test_generation_with_a_cache_equals_running_everything_again_for_every_token(make_model, trained, make_batch):
    model = trained(make_model())
    batch = _two_views_a_row(model, make_batch(model))
    responses = model.generate(batch, max_new_tokens=5)
    embeds, _ = model.embed(batch)
    words = model.language_model.get_input_embeddings()
    for row, length in enumerate(batch.attention_mask.sum(dim=1).tolist()):
        written: list[int] = []
        while len(written) < 5:
            full = torch.cat([embeds[row, :length], words(torch.tensor(written, dtype=torch.long))])[None]
            token = int(model.language_model(inputs_embeds=full).logits[0, -1].argmax())
            if token == 2:
                break
            written.append(token)
        assert responses[row] == written
