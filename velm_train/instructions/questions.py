"""Inference prompts: one finding in, the same question with several option orders out, blind to the truth."""

from collections.abc import Mapping, Sequence

from velm_train.core.errors import ConfigError
from velm_train.core.records import InstructionSample, ViewKind
from velm_train.core.seeding import generator
from velm_train.core.taxonomy import CategoryTaxonomy
from velm_train.instructions.builder import BuildResult, category_of, dropped_sample, request_of
from velm_train.instructions.finding import Finding, ImpossibleSampleError
from velm_train.instructions.options import closed_list, option_orders
from velm_train.instructions.tasks.name_type import NAME_TYPE, name_type
from velm_train.instructions.tasks.registry import require_views
from velm_train.instructions.wording import Wording


def build_questions(
    finding: Finding,
    *,
    categories: Mapping[str, CategoryTaxonomy],
    views: Sequence[ViewKind],
    num_option_orders: int,
    with_descriptions: bool,
    seed: int,
) -> BuildResult:
    """Asks for the type from the category's whole list, once per option order.

    The orders depend on the seed, the picture's bytes and the region's number; neither the truth nor a path
    that may contain it has a part in the prompt. The target is the right answer if it is known, else "".

    Args:
        finding: the place to ask about.
        categories: category -> taxonomy; a true type that is not in it is "none of these".
        views: view kinds in the order shown.
        num_option_orders: prompts to build, at least 1; `repetition` counts them.
        with_descriptions: True to put the taxonomy's descriptions before the options.
        seed: root seed.

    Returns:
        All questions, or one dropped entry if a view cannot be made.

    Raises:
        ConfigError: if the views do not suit the task or the number of orders is below 1.
        DataError: if the finding's category is not in the taxonomy.
    """
    if num_option_orders < 1:
        raise ConfigError(f"num_option_orders is {num_option_orders}; it must be at least 1")
    require_views(NAME_TYPE, views)
    category = category_of(finding, categories)
    wording = Wording(paraphrase_probability=0.0, synonym_probability=0.0, with_descriptions=with_descriptions)
    rng = generator(seed, "questions", finding.record.sha256, str(finding.region_index))
    questions: list[InstructionSample] = []
    for repetition, options in enumerate(option_orders(closed_list(category), count=num_option_orders, rng=rng)):
        try:
            request = request_of(
                finding,
                category=category,
                kinds=views,
                options=options,
                wording=wording,
                rng=rng,
                repetition=repetition,
            )
        except ImpossibleSampleError as error:
            note = dropped_sample(finding, task=NAME_TYPE, repetition=repetition, reason=str(error))
            return BuildResult(kept=(), dropped=(note,))
        questions.append(name_type(request))
    return BuildResult(kept=tuple(questions), dropped=())
