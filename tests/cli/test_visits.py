"""Each visit writes the prompt of the pictures it shows; lengths are known for all of them beforehand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from velm_train.cli.visits import Visits
from velm_train.collation.collate import collate, view_anomalous_by_answer
from velm_train.collation.render import EncodedSample, FamilyViews, PromptRenderer
from velm_train.core.appearance import AS_IT_IS
from velm_train.core.batch import Batch, Bundle, VisionEvidence
from velm_train.core.records import InstructionSample, Message, Option, View
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType
from velm_train.models.families.build import FamilyName
from velm_train.models.families.hub import HubSettings, build_family
from velm_train.models.families.writer import INSPECT_TOKEN
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.pipeline.augmentation import AugmentationSettings, Augmenter

SIZE_HW = (100, 180)
NUT = CategoryTaxonomy(
    noun="nut",
    normal_description="",
    defect_types={"cut": DefectType(display_name="cut", description="", synonyms=())},
)

EVIDENCE = VisionEvidence(
    final=torch.zeros(1, 2, 3),
    levels=torch.zeros(1, 1, 2, 3),
    grid_hw=torch.tensor([[1, 2]]),
    view_index=torch.zeros(1, dtype=torch.long),
    is_global=torch.ones(1, dtype=torch.bool),
    valid=torch.ones(1, 2, dtype=torch.bool),
    map_scores=torch.zeros(1, 2),
)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "llava_onevision", "smolvlm", "internvl"])
def renderer(request: pytest.FixtureRequest) -> PromptRenderer:
    family: FamilyName = request.param
    hub = HubSettings(
        path=None,
        revision=None,
        attn_implementation="sdpa",
        min_pixels=None,
        max_pixels=None,
        max_views=None,
        train_projector=False,
    )
    look_twice = LookTwiceSettings(source="off")
    model = build_family(
        family, hub=hub, dtype=torch.float32, level_layers=None, look_twice=look_twice, lora=None, seed=0
    )
    return PromptRenderer(
        model.writer.tokenizer,
        image_token=model.writer.image_token,
        inspect_token=INSPECT_TOKEN,
        system_text=None,
        family=FamilyViews(view_ids=model.writer, max_views=None, max_tokens=10_000),
    )


def sample(number: int) -> InstructionSample:
    crop = View(
        kind="crop",
        image_id="nut/1",
        image_path=Path("x.png"),
        sha256="0" * 64,
        box_xyxy=(0, 0, 170, 40 + 20 * number),
        contour=np.zeros((0, 2), dtype=np.int32),
    )
    return InstructionSample(
        sample_id=f"nut/{number}",
        image_id="nut/1",
        category="nut",
        task="name_type",
        views=(crop,),
        messages=(Message(role="user", text="<image>Defect:"),),
        target="cut",
        options=(Option(answer="cut", defect_type="cut"),),
        provenance={"answer_defect_type": "cut", "image_defect_type": "cut"},
    )


def visits_of(renderer: PromptRenderer, *, quarter_turns: bool, batches: list[list[EncodedSample]]) -> Visits:
    def keep(encoded: Sequence[EncodedSample], bundles: Sequence[Bundle] | None = None) -> Batch:
        batches.append(list(encoded))
        return collate(
            encoded,
            features=lambda view: EVIDENCE,
            pad_token_id=0,
            view_anomalous=view_anomalous_by_answer,
            max_tokens=None,
            bundles=bundles,
        )

    return Visits(
        [sample(0), sample(1)],
        renderer=renderer,
        augmenter=Augmenter(
            settings=AugmentationSettings(flips=False, quarter_turns=quarter_turns, brightness=0.0, contrast=0.0),
            categories={"nut": NUT},
            sizes_hw={"nut/1": SIZE_HW},
            seed=0,
        ),
        to_batch=keep,
    )


def test_length_is_that_of_the_longest_form_and_every_visit_keeps_within_it(renderer: PromptRenderer) -> None:
    batches: list[list[EncodedSample]] = []
    visits = visits_of(renderer, quarter_turns=True, batches=batches)
    facts = visits.facts(sharing=False)
    for visit in range(12):
        visits([0, 1], [visit, visit + 100])
    shown = [encoded for batch in batches for encoded in batch]
    assert {one.sample.views[0].appearance.quarter_turns for one in shown} == {0, 1, 2, 3}
    for number in (0, 1):
        lengths = {len(batch[number].input_ids) for batch in batches}
        assert max(lengths) == facts[number].num_tokens
        assert {batch[number].num_supervised for batch in batches} == {facts[number].num_supervised}


def test_places_of_a_turned_view_are_those_of_its_turned_size(renderer: PromptRenderer) -> None:
    batches: list[list[EncodedSample]] = []
    visits = visits_of(renderer, quarter_turns=True, batches=batches)
    for visit in range(8):
        visits([0], [visit])
    for (encoded,) in batches:
        (view,) = encoded.sample.views
        places = sum(token in (renderer.image_id, renderer.inspect_id) for token in encoded.input_ids)
        assert [places] == renderer.num_places(encoded.sample)
        assert view.size_hw == ((170, 40) if view.appearance.exchanges_sides else (40, 170))


def test_without_visits_or_without_augmentation_samples_are_as_they_were(renderer: PromptRenderer) -> None:
    batches: list[list[EncodedSample]] = []
    visits_of(renderer, quarter_turns=True, batches=batches)([0, 1], None)
    visits_of(renderer, quarter_turns=False, batches=batches)([0, 1], [3, 4])
    assert [one.input_ids for one in batches[0]] == [one.input_ids for one in batches[1]]
    assert {one.sample.views[0].appearance for batch in batches for one in batch} == {AS_IT_IS}
