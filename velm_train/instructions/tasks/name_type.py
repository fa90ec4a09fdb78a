"""Name the type: a request in, "which of these is it?" out."""

from velm_train.core.records import InstructionSample
from velm_train.instructions.options import gold_option
from velm_train.instructions.tasks.request import TaskRequest, assemble
from velm_train.instructions.wording import description_lines, draw_template, option_list, view_lines

NAME_TYPE = "name_type"

TEMPLATES = (
    "{views}{descriptions}Options: {options}.\nDefect:",
    "{views}{descriptions}Which of these is it? {options}.",
    "{views}{descriptions}Name the defect on this {noun}: {options}.",
    "{views}{descriptions}Choose one: {options}.\nType:",
)
"""The first is asked at inference; the others vary training."""


def name_type(request: TaskRequest) -> InstructionSample:
    """Asks for one option of the list; the truth decides the target and nothing else."""
    wording = request.wording
    template = draw_template(TEMPLATES, paraphrase_probability=wording.paraphrase_probability, rng=request.rng)
    prompt = template.format(
        views=view_lines(request.views),
        descriptions=description_lines(request.category, request.options) if wording.with_descriptions else "",
        options=option_list(request.options),
        noun=request.category.noun,
    )
    answer = request.answer_defect_type
    target = gold_option(request.options, answer).answer if answer is not None else ""
    return assemble(request, task=NAME_TYPE, prompt=prompt, target=target, options=request.options)
