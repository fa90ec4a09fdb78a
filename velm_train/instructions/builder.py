"""Training samples: findings and a taxonomy in, instruction samples out, with what was dropped and why.

Finding -> views -> options (subset, left out, synonyms, order) -> task -> InstructionSample
"""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from velm_train.core.errors import ConfigError, DataError
from velm_train.core.records import InstructionSample, Option, ViewKind
from velm_train.core.seeding import generator
from velm_train.core.taxonomy import CategoryTaxonomy
from velm_train.instructions.finding import Finding, ImpossibleSampleError
from velm_train.instructions.options import SPECIAL_OPTIONS, closed_list, shuffled, subset, with_synonyms, without
from velm_train.instructions.tasks.registry import TASKS, require_views
from velm_train.instructions.tasks.request import TaskRequest, sample_id
from velm_train.instructions.views import views_of
from velm_train.instructions.wording import Wording, require_probability

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMix:
    """What is asked how often.

    Attributes:
        task_weights: task -> relative frequency, finite, at least 0, not all 0.
        views_per_task: task -> view kinds in the order shown, for every task with a weight above 0.
        samples_per_region: questions drawn for each finding, at least 1.
    """

    task_weights: Mapping[str, float]
    views_per_task: Mapping[str, Sequence[ViewKind]]
    samples_per_region: int

    def __post_init__(self) -> None:
        """Checks weights, and that every task in use shows the views it needs."""
        if any(not math.isfinite(weight) or weight < 0 for weight in self.task_weights.values()):
            raise ConfigError(f"task_weights are {dict(self.task_weights)}; each must be finite and at least 0")
        if not self.tasks:
            raise ConfigError("task_weights has no task with a weight above 0; nothing would be asked")
        if self.samples_per_region < 1:
            raise ConfigError(f"samples_per_region is {self.samples_per_region}; it must be at least 1")
        for task in self.task_weights:
            if task not in TASKS:
                raise ConfigError(f"unknown instruction task {task!r} in task_weights; allowed: {', '.join(TASKS)}")
        for task in self.tasks:
            if task not in self.views_per_task:
                raise ConfigError(f"views_per_task has no entry for task {task!r}; name the views it shows")
            require_views(task, self.views_per_task[task])

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks in use, in a fixed order."""
        return tuple(sorted(task for task, weight in self.task_weights.items() if weight > 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionSampling:
    """How training lists differ from the category's whole closed list.

    Attributes:
        none_of_these_probability: chance that a type is left out on purpose: the true one, so that the answer
            becomes "none of these"; for a false alarm any, so that the list's length tells nothing.
        option_subset_probability: chance that a smaller list is drawn around the right answer.
        min_options: options a list keeps in any case, both special ones included; at least 3.
    """

    none_of_these_probability: float
    option_subset_probability: float
    min_options: int

    def __post_init__(self) -> None:
        """Checks ranges."""
        require_probability("none_of_these_probability", self.none_of_these_probability)
        require_probability("option_subset_probability", self.option_subset_probability)
        if self.min_options < 3:
            raise ConfigError(
                f"min_options is {self.min_options}; it must be at least 3: one type and both special options"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DroppedSample:
    """A sample that could not be built, and why."""

    sample_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildResult:
    """Every sample asked for: built, or dropped with its reason."""

    kept: tuple[InstructionSample, ...]
    dropped: tuple[DroppedSample, ...]


def build_samples(
    findings: Sequence[Finding],
    *,
    categories: Mapping[str, CategoryTaxonomy],
    tasks: TaskMix,
    options: OptionSampling,
    wording: Wording,
    seed: int,
) -> BuildResult:
    """Draws `samples_per_region` training samples for every finding.

    A sample depends on the seed, the picture, the region's number and the repetition alone, so that adding
    findings changes no other sample.

    Args:
        findings: gated places with a known answer.
        categories: category -> taxonomy.
        tasks: what is asked how often.
        options: how the lists vary.
        wording: how the text varies.
        seed: root seed.

    Raises:
        DataError: if a finding's category is not in the taxonomy.
    """
    kept: list[InstructionSample] = []
    dropped: list[DroppedSample] = []
    for finding in findings:
        category = category_of(finding, categories)
        for repetition in range(tasks.samples_per_region):
            names = ("instructions", finding.record.sha256, str(finding.region_index), str(repetition))
            task = _draw_task(tasks, generator(seed, *names, "task"))
            try:
                if finding.answer_defect_type is None:
                    raise ImpossibleSampleError("the answer is not known")
                request = request_of(
                    finding,
                    category=category,
                    kinds=tasks.views_per_task[task],
                    options=_draw_options(finding, category, options, wording, generator(seed, *names, "options")),
                    wording=wording,
                    rng=generator(seed, *names, "wording"),
                    repetition=repetition,
                )
                kept.append(TASKS[task].build(request))
            except ImpossibleSampleError as error:
                dropped.append(dropped_sample(finding, task=task, repetition=repetition, reason=str(error)))
    _log(kept, dropped, num_findings=len(findings))
    return BuildResult(kept=tuple(kept), dropped=tuple(dropped))


def category_of(finding: Finding, categories: Mapping[str, CategoryTaxonomy]) -> CategoryTaxonomy:
    """Returns the finding's category.

    Raises:
        DataError: if the taxonomy does not have it.
    """
    record = finding.record
    if record.category not in categories:
        raise DataError(
            f"{record.image_id}: category {record.category!r} is not in the taxonomy of {sorted(categories)}"
        )
    return categories[record.category]


def request_of(
    finding: Finding,
    *,
    category: CategoryTaxonomy,
    kinds: Sequence[ViewKind],
    options: tuple[Option, ...],
    wording: Wording,
    rng: np.random.Generator,
    repetition: int,
) -> TaskRequest:
    """Returns a finding as a request to a task.

    Raises:
        ImpossibleSampleError: if one of the views cannot be made.
    """
    return TaskRequest(
        record=finding.record,
        region=finding.region,
        region_index=finding.region_index,
        views=views_of(finding, kinds),
        category=category,
        answer_defect_type=finding.answer_defect_type,
        options=options,
        wording=wording,
        rng=rng,
        repetition=repetition,
        provenance={
            "gate_policy": finding.gate_policy,
            "image_defect_type": finding.record.defect_type,
            "region_source": "none" if finding.region is None else finding.region.source,
            "reference_image_id": "none" if finding.reference is None else finding.reference.image_id,
        },
    )


def dropped_sample(finding: Finding, *, task: str, repetition: int, reason: str) -> DroppedSample:
    """Returns the note on a sample that could not be built."""
    identifier = sample_id(finding.record.image_id, region_index=finding.region_index, task=task, repetition=repetition)
    return DroppedSample(sample_id=identifier, reason=reason)


def _draw_task(tasks: TaskMix, rng: np.random.Generator) -> str:
    weights = np.array([tasks.task_weights[task] for task in tasks.tasks], dtype=np.float64)
    return tasks.tasks[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _draw_options(
    finding: Finding,
    category: CategoryTaxonomy,
    sampling: OptionSampling,
    wording: Wording,
    rng: np.random.Generator,
) -> tuple[Option, ...]:
    answer = finding.answer_defect_type
    options = closed_list(category)
    types = [option.defect_type for option in options if option not in SPECIAL_OPTIONS]
    if rng.random() < sampling.none_of_these_probability and len(options) > sampling.min_options:
        left_out = answer if answer in types else types[int(rng.integers(len(types)))]
        assert left_out is not None
        options = without(options, left_out)
    if rng.random() < sampling.option_subset_probability and len(options) > sampling.min_options:
        size = int(rng.integers(sampling.min_options, len(options)))
        options = subset(options, keep=answer, size=size, rng=rng)
    reworded = with_synonyms(options, category, probability=wording.synonym_probability, rng=rng)
    return shuffled(reworded, rng)


def _log(kept: Sequence[InstructionSample], dropped: Sequence[DroppedSample], *, num_findings: int) -> None:
    by_task = Counter(sample.task for sample in kept)
    by_reason = Counter(note.reason for note in dropped)
    logger.info("%d samples from %d findings: %s", len(kept), num_findings, dict(sorted(by_task.items())))
    for reason, count in sorted(by_reason.items()):
        logger.warning("%d samples dropped: %s", count, reason)
