"""Samples about one picture are found, planned together, and laid out as a row that the model answers alike."""

from pathlib import Path

import numpy as np
import pytest
import torch

from velm_train.cli.visits import Visits
from velm_train.collation.collate import collate, split_views, view_anomalous_by_answer
from velm_train.collation.render import FamilyViews, PromptRenderer
from velm_train.core.records import InstructionSample, Message, Option, View
from velm_train.models.families.build import assemble_family
from velm_train.models.families.tiny import build_tiny
from velm_train.models.families.writer import INSPECT_TOKEN
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.packing.attention import row_attention
from velm_train.pipeline.augmentation import AugmentationSettings, Augmenter
from velm_train.training.bundles import ALONE
from velm_train.training.samplers import SamplePlan

QUESTIONS = ("Options: cut, hole.\nDefect:", "Options: hole, cut.\nDefect:", "Which of these is it? cut, hole.")
LONE_QUESTION = "Is it cut?"


@pytest.fixture(scope="module")
def model():
    return assemble_family(build_tiny("qwen2_5_vl"), look_twice=LookTwiceSettings(source="map"), lora=None, seed=0)


@pytest.fixture(scope="module")
def renderer(model):
    return PromptRenderer(
        model.writer.tokenizer,
        image_token=model.writer.image_token,
        inspect_token=INSPECT_TOKEN,
        system_text=None,
        family=FamilyViews(view_ids=model.writer, max_views=None, max_tokens=10_000),
    )


def sample(number, text, *, height):
    crop = View(
        kind="crop",
        image_id="nut/1",
        image_path=Path("x.png"),
        sha256="0" * 64,
        box_xyxy=(0, 0, 120, height),
        contour=np.zeros((0, 2), dtype=np.int32),
    )
    return InstructionSample(
        sample_id=f"nut/{number}",
        image_id="nut/1",
        category="nut",
        task="name_type",
        views=(crop,),
        messages=(Message(role="user", text=f"<image>\n{text}"),),
        target="cut",
        options=(Option(answer="cut", defect_type="cut"),),
        provenance={"answer_defect_type": "cut", "image_defect_type": "cut"},
    )


@pytest.fixture
def visits(model, renderer):
    looked_up: list[tuple[int, int]] = []

    def features(view):
        looked_up.append(view.size_hw)
        height, width = view.size_hw
        picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return split_views(model.encode_views([picture]))[0]

    def to_batch(encoded, bundles=None):
        return collate(
            encoded,
            features=features,
            pad_token_id=0,
            view_anomalous=view_anomalous_by_answer,
            max_tokens=None,
            bundles=bundles,
        )

    samples = [sample(number, text, height=80) for number, text in enumerate(QUESTIONS)]
    made = Visits(
        [*samples, sample(3, LONE_QUESTION, height=150)],
        renderer=renderer,
        augmenter=Augmenter(
            settings=AugmentationSettings(flips=False, quarter_turns=False, brightness=0.0, contrast=0.0),
            categories={},
            sizes_hw={},
            seed=0,
        ),
        to_batch=to_batch,
    )
    return made, looked_up


def test_questions_about_one_picture_become_one_bundle_whose_picture_is_looked_up_once(model, visits):
    made, looked_up = visits
    facts = made.facts(sharing=True)
    assert [fact.prefix == ALONE for fact in facts] == [False, False, False, True]
    assert {fact.prefix == ALONE for fact in made.facts(sharing=False)} == {True}
    plan = SamplePlan(facts, batch_size=4, accumulate=1, balance="none", seed=0, bundle_size=4).micro_batch(0)
    assert sorted(bundle.num_samples for bundle in plan.bundles) == [1, 3]
    looked_up.clear()
    row = made.row(plan)
    assert sorted(looked_up) == [(80, 120), (150, 120)]
    assert plan.num_useful_tokens == sum(bundle.num_tokens for bundle in row.bundles)
    apart = made(plan.samples, plan.visits)
    assert plan.num_useful_tokens < int(apart.attention_mask.sum())
    with torch.no_grad():
        expected = model.training_output(apart)
        with row_attention(model.decoder):
            found = model.training_output(row)
    assert found.num_supervised == expected.num_supervised == plan.num_supervised
    torch.testing.assert_close(found.language_loss_sum, expected.language_loss_sum, rtol=1e-5, atol=0)
