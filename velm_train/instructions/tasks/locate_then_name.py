"""Locate, then name: a request with a located region in, "where, and what?" out."""

from velm_train.core.records import NORMAL_DEFECT_TYPE, BoxXYXY, InstructionSample, SizeHW
from velm_train.instructions.answers import CELLS, located_answer
from velm_train.instructions.finding import ImpossibleSampleError
from velm_train.instructions.options import NO_DEFECT, gold_option
from velm_train.instructions.tasks.request import TaskRequest, assemble
from velm_train.instructions.views import WHOLE_QUERY_KINDS
from velm_train.instructions.wording import description_lines, draw_template, option_list, view_lines

LOCATE_THEN_NAME = "locate_then_name"

TEMPLATES = (
    "{views}{descriptions}Options: {options}.\nPlace, defect:",
    "{views}{descriptions}Where is the defect on this {noun}, and which is it? {options}.",
    "{views}{descriptions}Locate, then name: {options}.",
)


def cell_of(box_xyxy: BoxXYXY, *, size_hw: SizeHW) -> str:
    """Returns which ninth of the image, three by three, holds the box's centre."""
    x0, y0, x1, y1 = box_xyxy
    height, width = size_hw
    return CELLS[3 * (3 * (y0 + y1) // (2 * height)) + 3 * (x0 + x1) // (2 * width)]


def locate_then_name(request: TaskRequest) -> InstructionSample:
    """Asks for the place and the type; the answer to a false alarm is "no defect" alone.

    The answer is not one of a list, so the sample carries no options to score.

    Raises:
        ImpossibleSampleError: if there is no region or it is the whole image.
    """
    assert any(view.kind in WHOLE_QUERY_KINDS for view in request.views), request.views
    region = request.region
    if region is None or region.source == "whole_image":
        raise ImpossibleSampleError("locate_then_name needs a region smaller than the image and there is none")
    template = draw_template(TEMPLATES, paraphrase_probability=request.wording.paraphrase_probability, rng=request.rng)
    prompt = template.format(
        views=view_lines(request.views),
        descriptions=description_lines(request.category, request.options) if request.wording.with_descriptions else "",
        options=option_list(request.options),
        noun=request.category.noun,
    )
    target = _target(request, cell=cell_of(region.box_xyxy, size_hw=request.record.size_hw))
    return assemble(request, task=LOCATE_THEN_NAME, prompt=prompt, target=target, options=())


def _target(request: TaskRequest, *, cell: str) -> str:
    if request.answer_defect_type is None:
        return ""
    if request.answer_defect_type == NORMAL_DEFECT_TYPE:
        return NO_DEFECT.answer
    return located_answer(cell, gold_option(request.options, request.answer_defect_type))
