"""A batch moves between devices as a whole."""

import dataclasses

import torch

from velm_train.core.batch import Batch, VisionEvidence


def make_batch() -> Batch:
    evidence = VisionEvidence(
        final=torch.rand(2, 6, 5),
        levels=torch.rand(3, 2, 6, 4),
        grid_hw=torch.tensor([[2, 3], [2, 3]]),
        view_index=torch.tensor([0, 1]),
        is_global=torch.tensor([True, True]),
        valid=torch.ones(2, 6, dtype=torch.bool),
        map_scores=torch.rand(2, 6),
    )
    return Batch(
        input_ids=torch.arange(8).reshape(2, 4),
        attention_mask=torch.ones(2, 4, dtype=torch.long),
        labels=torch.full((2, 4), -100),
        evidence=evidence,
        view_sample=torch.tensor([0, 1]),
        view_anomalous=torch.tensor([1.0, 0.0]),
        sample_ids=("a", "b"),
    )


def test_every_tensor_moves_and_nothing_else_changes() -> None:
    batch = make_batch()
    moved = batch.to(torch.device("meta"))  # a device that every machine has
    assert moved.sample_ids == ("a", "b")
    for before, after in ((batch, moved), (batch.evidence, moved.evidence)):
        for field in dataclasses.fields(before):
            value = getattr(before, field.name)
            if isinstance(value, torch.Tensor):
                there = getattr(after, field.name)
                assert (there.device.type, there.shape, there.dtype) == ("meta", value.shape, value.dtype), field.name


def test_values_stay_as_they_are() -> None:
    batch = make_batch()
    again = batch.to(torch.device("cpu"))
    assert torch.equal(again.evidence.final, batch.evidence.final)
    assert torch.equal(again.input_ids, batch.input_ids)


def test_what_is_not_known_stays_unknown_and_what_is_known_moves_along() -> None:
    evidence = make_batch().evidence
    meta = torch.device("meta")
    assert (evidence.to(meta).tile_xyxy, evidence.to(meta).gt_scores) == (None, None)
    known = dataclasses.replace(evidence, tile_xyxy=torch.rand(2, 4), gt_scores=torch.rand(2, 6)).to(meta)
    assert known.tile_xyxy is not None
    assert known.gt_scores is not None
    assert {known.tile_xyxy.device, known.gt_scores.device} == {meta}
