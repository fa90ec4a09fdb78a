"""Same or different: a request with a reference in, "is the second like the first?" out."""

from velm_train.core.records import NORMAL_DEFECT_TYPE, InstructionSample, Option
from velm_train.instructions.options import shuffled
from velm_train.instructions.tasks.request import TaskRequest, assemble
from velm_train.instructions.wording import draw_template, view_lines

SAME_OR_DIFFERENT = "same_or_different"

SAME = Option(answer="same", defect_type=NORMAL_DEFECT_TYPE)
DIFFERENT = Option(answer="different", defect_type=None)

TEMPLATES = (
    "{views}{first} or {second}:",
    "{views}Compare. {first} or {second}?",
    "{views}Is this {noun} like the normal one? {first} or {second}:",
)


def same_or_different(request: TaskRequest) -> InstructionSample:
    """Asks whether the part shows the same normal surface as the reference; a false alarm is the same."""
    assert any(view.kind == "reference" for view in request.views), request.views
    assert any(view.kind != "reference" for view in request.views), request.views
    options = shuffled((SAME, DIFFERENT), request.rng)
    template = draw_template(TEMPLATES, paraphrase_probability=request.wording.paraphrase_probability, rng=request.rng)
    prompt = template.format(
        views=view_lines(request.views),
        first=options[0].answer,
        second=options[1].answer,
        noun=request.category.noun,
    )
    right = SAME if request.answer_defect_type == NORMAL_DEFECT_TYPE else DIFFERENT
    return assemble(request, task=SAME_OR_DIFFERENT, prompt=prompt, target=right.answer, options=options)
