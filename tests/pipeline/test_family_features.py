"""Views of every family go through features on disk, prompts and batches, whatever their sizes and tiles."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch

from velm_train.collation.collate import collate
from velm_train.collation.render import FamilyViews, PromptRenderer
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.batch import Batch
from velm_train.core.records import InstructionSample, Message, Option, View
from velm_train.instructions.views import NO_CONTOUR, make_view
from velm_train.models.families.build import FamilyName
from velm_train.models.families.hub import HubSettings, build_family
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.families.writer import INSPECT_TOKEN
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.look_twice.geometry import token_boxes
from velm_train.pipeline.features import FeatureReader, build_features
from velm_train.pipeline.live_features import ViewEncoder
from velm_train.pipeline.views import MapSource, render_view

TINY = HubSettings(
    path=None,
    revision=None,
    attn_implementation="sdpa",
    min_pixels=None,
    max_pixels=None,
    max_views=None,
    train_projector=False,
)
BOXES = {"whole": None, "wide": (4, 20, 92, 52), "tall": (50, 2, 86, 70)}


@pytest.fixture(scope="module", params=get_args(FamilyName))
def model(request: pytest.FixtureRequest) -> HFVisionLanguageModel:
    look_twice = LookTwiceSettings(source="fused", dim=16)
    return build_family(
        request.param, hub=TINY, dtype=torch.float32, level_layers=None, look_twice=look_twice, lora=None, seed=0
    )


@pytest.fixture
def views(parts) -> dict[str, View]:
    record = parts.one("felt", "test/spot/001.png")
    return {name: make_view("crop", record, box_xyxy=box, contour=NO_CONTOUR) for name, box in BOXES.items()}


@pytest.fixture
def reader(store: ArtifactStore, progress, detections, gates, parts, model, views) -> FeatureReader:
    records = {record.image_id: record for record in parts.records}
    sources = {
        image_id: MapSource(detection=detection, gate=gates["felt"], gt_record=records[image_id])
        for image_id, detection in detections["felt"].detections.items()
    }
    return build_features(
        store=store,
        views={"felt, test": list(views.values())},
        encoder=ViewEncoder(tower=model, map_sources=sources, contour_width_px=2, batch_size=2),
        cache="on",
        progress=progress,
    )


@pytest.fixture
def batch_of(reader, model, views) -> Callable[..., Batch]:
    renderer = PromptRenderer(
        model.writer.tokenizer,
        image_token=model.writer.image_token,
        inspect_token=INSPECT_TOKEN,
        system_text=None,
        family=FamilyViews(view_ids=model.writer, max_views=None, max_tokens=model.max_context),
    )

    def make(*rows: tuple[str, ...]) -> Batch:
        samples = [
            InstructionSample(
                sample_id=" ".join(names),
                image_id="one",
                category="felt",
                task="name_type",
                views=tuple(views[name] for name in names),
                messages=(Message(role="user", text=f"{'<image> ' * len(names)}{'Is it cut? ' * len(names)}"),),
                target="cut",
                options=(Option(answer="cut", defect_type="cut"), Option(answer="dent", defect_type="dent")),
                provenance={},
            )
            for names in rows
        ]
        return collate(
            [renderer.encode(sample) for sample in samples],
            features=reader,
            pad_token_id=renderer.tokenizer.pad_token_id,
            view_anomalous=lambda sample: [1.0] * len(sample.views),
            max_tokens=None,
        )

    return make


def test_features_are_what_the_tower_says_bit_by_bit(reader, model, views) -> None:
    """In float32, because the tower computes in it; one view alone, because rounding depends on the batch."""
    direct = model.encode_views([render_view(views[name], contour_width_px=2) for name in ("whole", "wide")])
    found = reader(views["whole"])
    tiles = direct.view_index == 0
    num_tokens = found.final.shape[1]
    assert found.final.dtype == torch.float32
    assert torch.equal(found.final, direct.final[tiles, :num_tokens])
    assert torch.equal(found.levels, direct.levels[:, tiles, :num_tokens])
    assert torch.equal(found.tile_xyxy, direct.tile_xyxy[tiles])
    assert torch.equal(found.valid, direct.valid[tiles, :num_tokens])


def test_shape_of_the_features_is_known_from_the_size_of_a_view(reader, model, views) -> None:
    for view in views.values():
        assert model.evidence_shape(view.size_hw) == tuple(reader(view).valid.shape)


def test_maps_and_masks_are_pooled_where_each_token_lies(reader, views, detections, gates) -> None:
    """The spot covers columns 60 to 77 and rows 12 to 29: exactly the tokens that overlap it have a share of it."""
    for name, view in views.items():
        found = reader(view)
        boxes = token_boxes(found.grid_hw, num_tokens=found.valid.shape[1], tile_xyxy=found.tile_xyxy).clamp(0, 1)
        x0, y0, x1, y1 = view.box_xyxy
        scale, origin = torch.tensor([x1 - x0, y1 - y0] * 2), torch.tensor([x0, y0] * 2)
        left, top, right, bottom = (boxes * scale + origin).unbind(dim=-1)
        width = (right.clamp_max(78) - left.clamp_min(60)).clamp_min(0)
        height = (bottom.clamp_max(30) - top.clamp_min(12)).clamp_min(0)
        shares = width * height / ((right - left) * (bottom - top)).clamp_min(1e-6)
        known = found.valid & (right - left > 1e-3) & (bottom - top > 1e-3)
        torch.testing.assert_close(found.gt_scores[known], shares[known], rtol=1e-3, atol=1e-4, msg=name)
        assert bool(found.gt_scores[known].max() > 0.2)
        suspicious = (found.map_scores[known] * shares[known]).sum() / shares[known].sum()
        elsewhere = found.map_scores[known & (shares == 0)].mean()
        assert suspicious > 1.5 * elsewhere, name


def test_prompts_have_as_many_places_as_the_features_fill(batch_of, model) -> None:
    for name in BOXES:
        batch = batch_of((name,))
        first, second = model.look(batch.evidence)
        assert int((batch.input_ids == model.image_token_id).sum()) == len(first.tokens)
        assert int((batch.input_ids == model.inspect_token_id).sum()) == second.second_look.shape[1] == 5


def test_batch_of_mixed_sizes_and_numbers_of_views_equals_one_by_one(batch_of, model) -> None:
    rows = (("whole",), ("wide", "tall"), ("tall", "whole", "wide"))
    options = [[[7, 8], [9]]] * len(rows)
    together = model.option_log_likelihoods(batch_of(*rows), options=options)
    alone = [model.option_log_likelihoods(batch_of(row), options=options[:1])[0] for row in rows]
    torch.testing.assert_close(torch.stack(together), torch.stack(alone), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        sums = [float(model.training_output(batch_of(row)).language_loss_sum) for row in rows]
        summed = float(model.training_output(batch_of(*rows)).language_loss_sum)
    assert summed == pytest.approx(sum(sums), rel=1e-4)


def test_training_output_brings_the_scores_that_masks_supervise(batch_of, model) -> None:
    batch = batch_of(("whole", "tall"))
    output = model.training_output(batch)
    assert output.token_scores is not None
    assert output.token_scores.shape == batch.evidence.gt_scores.shape
    assert np.isfinite(output.token_scores.detach().numpy()).all()


def test_without_second_look_prompts_have_no_place_for_it(model) -> None:
    before = model.view_token_ids((60, 90))
    with model.first_look_only():
        inside = model.view_token_ids((60, 90))
        assert model.writer((60, 90)) == inside
    assert before == (*inside, *[model.inspect_token_id] * 5)
    assert model.view_token_ids((60, 90)) == before
