"""Training samples and questions come from the same findings, by the same words and pictures."""

import dataclasses
from collections.abc import Sequence

import pytest

from velm_train.assets.library import AssetLibrary
from velm_train.collation.render import PromptRenderer, embedded_renderer
from velm_train.core.records import ImageRecord, InstructionSample
from velm_train.core.taxonomy import Taxonomy, derive_taxonomy
from velm_train.instructions.builder import BuildResult, OptionSampling, TaskMix
from velm_train.instructions.finding import Finding, ImpossibleSampleError
from velm_train.instructions.wording import Wording
from velm_train.pipeline.looking import GatedImage, look
from velm_train.pipeline.samples import CropSettings, findings_of, questions_by_image, training_samples, views_in

CROPS = CropSettings(margin_fraction=0.25, min_size_px=32)


@pytest.fixture
def taxonomy(parts) -> Taxonomy:
    return derive_taxonomy("parts", {"felt": {"spot"}, "steel": {"spot"}})


@pytest.fixture
def gated(parts, detections, gates, region_settings) -> list[GatedImage]:
    """Every image that is no reference, the gate open."""
    return [
        look(
            record,
            detections[record.category].detections[record.image_id],
            gates[record.category],
            role=parts.roles[record.image_id],
            group="seen",
            policy="detector",
            settings=region_settings,
        )
        for record in parts.records
        if parts.roles[record.image_id] != "reference"
    ]


@pytest.fixture
def references(parts) -> dict[str, list[ImageRecord]]:
    kept: dict[str, list[ImageRecord]] = {}
    for record in parts.records:
        if parts.roles[record.image_id] == "reference":
            kept.setdefault(record.category, []).append(record)
    return kept


def find(
    images: Sequence[GatedImage], references: dict[str, list[ImageRecord]], *, seed: int = 0, labelled: bool = True
) -> list[Finding]:
    return [
        finding
        for image in images
        for finding in findings_of(
            image, references=references, crops=CROPS, gate_policy="detector", seed=seed, labelled=labelled
        )
    ]


def ask(
    findings: Sequence[Finding], taxonomy: Taxonomy, *, num_option_orders: int = 2
) -> dict[str, list[list[InstructionSample]]]:
    return questions_by_image(
        findings,
        taxonomy=taxonomy,
        views=["reference", "crop"],
        num_option_orders=num_option_orders,
        with_descriptions=False,
        seed=0,
    )


def teach(findings: Sequence[Finding], taxonomy: Taxonomy, *, samples_per_region: int = 1) -> BuildResult:
    return training_samples(
        findings,
        taxonomy=taxonomy,
        tasks=TaskMix(
            task_weights={"name_type": 1.0},
            views_per_task={"name_type": ["reference", "crop"]},
            samples_per_region=samples_per_region,
        ),
        options=OptionSampling(none_of_these_probability=0.0, option_subset_probability=0.0, min_options=3),
        wording=Wording(paraphrase_probability=0.0, synonym_probability=0.0, with_descriptions=False),
        seed=0,
    )


def test_stopped_images_have_no_findings(gated, references) -> None:
    stopped = [image for image in gated if not image.decision.pred_label]
    flagged = [image for image in gated if image.decision.pred_label]
    assert stopped
    assert find(stopped, references) == []
    assert [f.record.image_id for f in find(flagged, references)] == [
        image.record.image_id for image in flagged for _ in image.regions
    ]


def test_references_are_drawn_from_the_reference_role_of_the_category_alone(gated, references, parts) -> None:
    seen = {find(gated, references, seed=seed)[0].reference.image_id for seed in range(20)}
    assert seen == {"parts/felt/train/good/004.png", "parts/felt/train/good/005.png"}
    for finding in find(gated, references):
        assert finding.reference is not None
        assert parts.roles[finding.reference.image_id] == "reference"
        assert finding.reference.category == finding.record.category


def test_same_image_gets_the_same_reference_whatever_stands_beside_it(gated, references) -> None:
    alone = {
        image.record.image_id: find([image], references)[0].reference for image in gated if image.decision.pred_label
    }
    together = {finding.record.image_id: finding.reference for finding in find(gated[::-1], references)}
    assert alone == together


def test_category_without_references_has_none(gated) -> None:
    assert {finding.reference for finding in find(gated, {})} == {None}


def test_crop_holds_the_region_and_lies_in_the_image(gated, references) -> None:
    for finding in find(gated, references):
        assert finding.region is not None
        assert finding.crop_box_xyxy is not None
        x0, y0, x1, y1 = finding.crop_box_xyxy
        rx0, ry0, rx1, ry1 = finding.region.box_xyxy
        assert 0 <= x0 <= rx0 < rx1 <= x1 <= 96
        assert 0 <= y0 <= ry0 < ry1 <= y1 <= 72


def test_questions_do_not_depend_on_the_truth(gated, references, taxonomy) -> None:
    findings = find(gated, references)
    lies = [
        dataclasses.replace(
            finding,
            record=dataclasses.replace(finding.record, defect_type="good"),
            answer_defect_type="good",
        )
        for finding in findings
    ]
    unknown = find(gated, references, labelled=False)
    assert {finding.answer_defect_type for finding in unknown} == {None}

    def shown(found: Sequence[Finding]) -> list[object]:
        return [
            (question.messages, question.options, [view.box_xyxy for view in question.views])
            for regions in ask(found, taxonomy).values()
            for orders in regions
            for question in orders
        ]

    assert shown(findings) == shown(lies) == shown(unknown)


def test_false_alarm_is_taught_as_no_defect(gated, references, taxonomy, detections, gates, region_settings) -> None:
    normal = next(image for image in gated if not image.record.gt_label)
    alarm = look(
        normal.record,
        normal.detection,
        gates[normal.record.category],
        role="train",
        group="seen",
        policy="off",
        settings=region_settings,
    )
    (sample,) = teach(find([alarm], references)[:1], taxonomy).kept
    assert sample.target == "no defect"


def test_question_and_training_sample_of_one_region_share_the_prompt(
    gated, references, taxonomy, assets: AssetLibrary
) -> None:
    renderer: PromptRenderer = embedded_renderer(
        assets.ensure("smollm2_135m_instruct"), num_first_look=4, num_second_look=2
    )
    findings = find(gated, references)[:1]
    taught = {sample.options: sample for sample in teach(findings, taxonomy, samples_per_region=12).kept}
    ((questions,),) = ask(findings, taxonomy, num_option_orders=12).values()
    asked = {question.options: question for question in questions}
    both = set(taught) & set(asked)
    assert len(both) == 6  # every order of three options
    for options in both:
        training, question = renderer.encode(taught[options]), renderer.encode(asked[options])
        assert taught[options].messages == asked[options].messages
        assert [view.box_xyxy for view in taught[options].views] == [view.box_xyxy for view in asked[options].views]
        assert training.input_ids == question.input_ids
        assert training.labels == question.labels


def test_question_that_cannot_be_made_is_an_error_and_not_a_silent_drop(gated, taxonomy) -> None:
    with pytest.raises(ImpossibleSampleError, match=r"change instructions\.tasks\.name_type\.views"):
        ask(find(gated, {}), taxonomy)


def test_views_are_listed_in_order_with_repeats(gated, references, taxonomy) -> None:
    findings = find(gated, references)[:1]
    ((questions,),) = ask(findings, taxonomy).values()
    assert [view.kind for view in views_in(questions)] == ["reference", "crop", "reference", "crop"]
