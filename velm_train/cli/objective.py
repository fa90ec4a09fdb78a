"""The setting `objective` in; refused early if the test images have no such figure, written at the end of a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from velm_train.cli.prepare import Prepared
from velm_train.cli.workshop import Workshop
from velm_train.core.errors import ConfigError
from velm_train.core.objective import VERSION, Objective, write_objective
from velm_train.core.pruning import TrialPruned
from velm_train.core.scores import RowScores, Score

ALL = "all"


def require_objective(shop: Workshop, prepared: Prepared) -> None:
    """Refuses an objective that the test images cannot give, before anything is trained.

    Raises:
        ConfigError: naming the figures that there are.
    """
    groups = {
        prepared.group(record.category)
        for record in prepared.records
        if record.image_id in prepared.roles and prepared.roles[record.image_id] == "test"
    }
    _require(shop.config.objective, {ALL, *groups})


def publish_objective(shop: Workshop, scores: RowScores) -> None:
    """Writes objective.json of a finished run.

    Raises:
        ConfigError: if the scoreboard has no such figure, naming those it has.
    """
    assert shop.run_folder is not None
    figures = recalls(scores)
    name = shop.config.objective
    _require(name, set(figures))
    write_objective(shop.run_folder, Objective(version=VERSION, name=name, value=figures[name].value, state="finished"))


def recalls(scores: RowScores) -> dict[str, Score]:
    """Returns end-to-end balanced recall by the names that `objective` takes."""
    groups = {group.name: group.system.end_to_end_balanced_recall for group in scores.groups}
    return {ALL: scores.overall.system.end_to_end_balanced_recall} | groups


@contextmanager
def pruned_runs_end_well(shop: Workshop) -> Iterator[None]:
    """Turns the end of a pruned run inside a `with` block into objective.json and one line."""
    try:
        yield
    except TrialPruned as pruned:
        assert shop.run_folder is not None
        name = shop.config.objective
        write_objective(shop.run_folder, Objective(version=VERSION, name=name, value=None, state="pruned"))
        shop.progress.note(str(pruned))


def _require(name: str, there: set[str]) -> None:
    if name not in there:
        raise ConfigError(
            f"objective={name} is not possible: the test images of this protocol give {', '.join(sorted(there))}"
        )
