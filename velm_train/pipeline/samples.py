"""Gated images in; training samples and evaluation questions out, by the same path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from velm_train.core.records import GatePolicy, ImageRecord, InstructionSample, View, ViewKind
from velm_train.core.seeding import generator
from velm_train.core.taxonomy import Taxonomy
from velm_train.instructions.builder import BuildResult, OptionSampling, TaskMix, build_samples
from velm_train.instructions.finding import Finding, ImpossibleSampleError
from velm_train.instructions.questions import build_questions
from velm_train.instructions.wording import Wording
from velm_train.pipeline.looking import GatedImage
from velm_train.regions.crop import crop_box


@dataclass(frozen=True, kw_only=True, slots=True)
class CropSettings:
    """How much context a crop shows; see `regions.crop`."""

    margin_fraction: float
    min_size_px: int


def findings_of(
    image: GatedImage,
    *,
    references: Mapping[str, Sequence[ImageRecord]],
    crops: CropSettings,
    gate_policy: GatePolicy,
    seed: int,
    labelled: bool,
) -> list[Finding]:
    """Returns one finding per region of a flagged image.

    Args:
        image: after the gate; a stopped image has no findings.
        references: category -> normal images kept as references.
        crops: context around regions.
        gate_policy: recorded in the provenance.
        seed: picks the reference; the same image always gets the same one.
        labelled: whether the truth may be read.
    """
    record = image.record
    choices = references[record.category] if record.category in references else ()
    reference = None
    if choices:
        draw = generator(seed, "reference", record.sha256).integers(len(choices))
        reference = choices[int(draw)]
    return [
        Finding(
            record=record,
            region=region,
            region_index=number,
            crop_box_xyxy=crop_box(
                region.box_xyxy,
                record.size_hw,
                margin_fraction=crops.margin_fraction,
                min_size_px=crops.min_size_px,
            ),
            reference=reference,
            answer_defect_type=record.defect_type if labelled else None,
            gate_policy=gate_policy,
        )
        for number, region in enumerate(image.regions)
    ]


def training_samples(
    findings: Sequence[Finding],
    *,
    taxonomy: Taxonomy,
    tasks: TaskMix,
    options: OptionSampling,
    wording: Wording,
    seed: int,
) -> BuildResult:
    """Builds what the model is taught; only places the detector flagged are among the findings."""
    return build_samples(
        findings, categories=taxonomy.categories, tasks=tasks, options=options, wording=wording, seed=seed
    )


def questions_by_image(
    findings: Sequence[Finding],
    *,
    taxonomy: Taxonomy,
    views: Sequence[ViewKind],
    num_option_orders: int,
    with_descriptions: bool,
    seed: int,
) -> dict[str, list[list[InstructionSample]]]:
    """Asks for the type of every finding: image_id -> region -> option orders.

    Raises:
        ImpossibleSampleError: if a view cannot be made, because a question that is not asked would be a silent drop.
    """
    asked: dict[str, list[list[InstructionSample]]] = {}
    for finding in findings:
        result = build_questions(
            finding,
            categories=taxonomy.categories,
            views=views,
            num_option_orders=num_option_orders,
            with_descriptions=with_descriptions,
            seed=seed,
        )
        if result.dropped:
            note = result.dropped[0]
            raise ImpossibleSampleError(f"{note.sample_id}: {note.reason}; change instructions.tasks.name_type.views")
        asked.setdefault(finding.record.image_id, []).append(list(result.kept))
    return asked


def views_in(samples: Sequence[InstructionSample]) -> list[View]:
    """Returns every view of the samples, in order, repeats included."""
    return [view for sample in samples for view in sample.views]
