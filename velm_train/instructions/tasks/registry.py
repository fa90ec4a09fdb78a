"""The tasks by name, with the views each of them needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from velm_train.core.errors import ConfigError
from velm_train.core.records import InstructionSample, ViewKind
from velm_train.instructions.tasks.locate_then_name import LOCATE_THEN_NAME, locate_then_name
from velm_train.instructions.tasks.name_type import NAME_TYPE, name_type
from velm_train.instructions.tasks.request import TaskRequest
from velm_train.instructions.tasks.same_or_different import SAME_OR_DIFFERENT, same_or_different
from velm_train.instructions.views import WHOLE_QUERY_KINDS
from velm_train.instructions.wording import VIEW_LABELS

_QUERY_KINDS: tuple[ViewKind, ...] = (*WHOLE_QUERY_KINDS, "crop")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One way to ask.

    Attributes:
        build: makes the sample.
        needs_views: groups of view kinds; each group must be met by at least one view.
    """

    build: Callable[[TaskRequest], InstructionSample]
    needs_views: tuple[tuple[ViewKind, ...], ...]


TASKS: Mapping[str, Task] = {
    NAME_TYPE: Task(build=name_type, needs_views=(_QUERY_KINDS,)),
    SAME_OR_DIFFERENT: Task(build=same_or_different, needs_views=(("reference",), _QUERY_KINDS)),
    LOCATE_THEN_NAME: Task(build=locate_then_name, needs_views=(WHOLE_QUERY_KINDS,)),
}


def require_views(task: str, kinds: Sequence[ViewKind]) -> None:
    """Checks the views that a task is configured to show.

    Raises:
        ConfigError: if the task is unknown, a kind is unknown or occurs twice, or a kind the task needs is missing.
    """
    if task not in TASKS:
        raise ConfigError(f"unknown instruction task {task!r}; allowed: {', '.join(TASKS)}")
    unknown = [kind for kind in kinds if kind not in VIEW_LABELS]
    if unknown:
        raise ConfigError(f"views of task {task!r}: unknown kinds {unknown}; allowed: {', '.join(VIEW_LABELS)}")
    if len(set(kinds)) != len(kinds):
        raise ConfigError(f"views of task {task!r} are {list(kinds)}; each kind may occur once")
    for group in TASKS[task].needs_views:
        if not set(group) & set(kinds):
            raise ConfigError(f"views of task {task!r} are {list(kinds)}; add one of: {', '.join(group)}")
