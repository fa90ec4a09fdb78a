"""A search space and the file of a study in; trials to run, and what became of them, out. Optuna is used here alone.

The file is Optuna's journal: every job reports to it, and a sweep that was stopped goes on with it.
"""

import itertools
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from velm_train.cli.search_space import Choices, SearchSpace
from velm_train.core.errors import ConfigError
from velm_train.core.seeding import derive_seed, generator
from velm_train.core.study import VERSION, StudyFacts, StudyTrial, TrialState

if TYPE_CHECKING:
    import optuna

STUDY = "velm_train"
"""Name of the one study of a file."""

SPACE, WORDS, FOLDER, REASON, PRUNER, WARM_UP = "space", "words", "folder", "reason", "pruner", "startup_trials"
MIN_TRIALS_FOR_IMPORTANCE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySettings:
    """How a study draws and prunes.

    Attributes:
        sampler: tpe, random or grid.
        pruner: none, median or hyperband.
        startup_trials: trials that are drawn at random, and that none is pruned before.
        n_trials: how many there are to be; None with sampler grid for all combinations.
        seed: of the draws.
    """

    sampler: str
    pruner: str
    startup_trials: int
    n_trials: int | None
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A trial to run.

    Attributes:
        number: of the trial.
        words: its command line.
    """

    number: int
    words: tuple[str, ...]


def require_optuna() -> None:
    """Refuses to start without Optuna.

    Raises:
        ConfigError: saying how to install it.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "hydra/sweeper=optuna needs Optuna 5: pip install -c constraints.txt -e '.[cluster]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(path: Path) -> "optuna.storages.BaseStorage":
    """Opens the journal, which is made if there is none; several processes may have it open."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(path)))


class TrialStudy:
    """The study of one sweep."""

    def __init__(self, path: Path, *, space: SearchSpace, settings: StudySettings, objective: str) -> None:
        """Opens the study, or goes on with it.

        Args:
            path: of the journal.
            space: what is searched.
            settings: how.
            objective: the figure; the more the better.

        Raises:
            ConfigError: if the file holds a study of something else.
        """
        import optuna

        self._space = space
        self._settings = settings
        self._objective = objective
        self._study = optuna.create_study(
            study_name=STUDY, storage=open_storage(path), direction="maximize", load_if_exists=True
        )
        _require_same(self._study, path, body=space.to_json() | {"objective": objective})
        self._study.set_user_attr(PRUNER, settings.pruner)
        self._study.set_user_attr(WARM_UP, settings.startup_trials)
        self._distributions = {key: _distribution(dimension) for key, dimension in space.dimensions.items()}

    @property
    def num_trials(self) -> int:
        """Trials drawn so far."""
        return len(self._study.get_trials(deepcopy=False))

    def left_open(self) -> list[Drawn]:
        """Returns the trials that were drawn and have not ended."""
        return [
            Drawn(number=trial.number, words=tuple(trial.user_attrs[WORDS]))
            for trial in self._study.get_trials(deepcopy=False)
            if not trial.state.is_finished() and WORDS in trial.user_attrs
        ]

    def draw(self, num_trials: int) -> list[Drawn]:
        """Draws further trials, fewer than asked for, or none, where the study is complete.

        What is drawn depends on the trials before alone, not on whether the sweep was stopped in between.
        """
        total = self._total()
        drawn: list[Drawn] = []
        for _ in range(min(num_trials, total - self.num_trials)):
            # Jobs that are drawn together share a sampler, which reckons with those that have not ended.
            if not drawn or self._settings.sampler == "grid":
                self._study.sampler = self._sampler(self.num_trials)
            trial = self._study.ask(self._distributions)
            words = self._space.words(trial.params)
            trial.set_user_attr(WORDS, list(words))
            drawn.append(Drawn(number=trial.number, words=words))
        return drawn

    def finish(self, number: int, value: float) -> None:
        """Notes the objective of a trial."""
        self._study.tell(number, value, skip_if_finished=True)

    def prune(self, number: int) -> None:
        """Notes that a trial was ended early."""
        import optuna

        self._study.tell(number, state=optuna.trial.TrialState.PRUNED, skip_if_finished=True)

    def fail(self, number: int, reason: str) -> None:
        """Notes that a trial gave no figure, and why."""
        import optuna

        trial = self._study.get_trials(deepcopy=False)[number]
        self._study._storage.set_trial_user_attr(trial._trial_id, REASON, reason)
        self._study.tell(number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def facts(self) -> StudyFacts:
        """Returns everything that was tried."""
        trials = self._study.get_trials(deepcopy=False)
        return StudyFacts(
            version=VERSION,
            objective=self._objective,
            sampler=self._settings.sampler,
            pruner=self._settings.pruner,
            seed=self._settings.seed,
            trials=tuple(_fact(trial) for trial in trials),
            importances=self._importances(),
        )

    def _importances(self) -> dict[str, float]:
        import optuna

        done = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if len(done) < MIN_TRIALS_FOR_IMPORTANCE or len(self._distributions) < 2 or len({t.value for t in done}) < 2:
            return {}
        seed = derive_seed(self._settings.seed, "importance") % 2**32
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        return {
            key: float(share)
            for key, share in optuna.importance.get_param_importances(self._study, evaluator=evaluator).items()
        }

    def _total(self) -> int:
        limits = [] if self._settings.n_trials is None else [self._settings.n_trials]
        return min([*limits, *([len(self._combinations())] if self._settings.sampler == "grid" else [])])

    def _sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        import optuna

        settings = self._settings
        seed = derive_seed(settings.seed, "trial", str(number)) % 2**32
        if settings.sampler == "grid":
            combination = self._combinations()[number]
            with warnings.catch_warnings():  # all that is used of it has been the same for years
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.PartialFixedSampler(combination, optuna.samplers.RandomSampler())
        if settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=settings.startup_trials)

    def _combinations(self) -> list[dict[str, str]]:
        """Returns every combination of choices, in an order of the seed's, so that any number of them is a fair part.

        Optuna's own sampler of grids wants to end the study from inside of an objective function.
        """
        for key, dimension in self._space.dimensions.items():
            if not isinstance(dimension, Choices):
                raise ConfigError(
                    f"hydra.sweeper.sampler=grid cannot try every value of an interval: give {key} as choice(...) or "
                    "range(...), or use sampler tpe or random"
                )
        keys = list(self._space.dimensions)
        values = [dimension.values for dimension in self._space.dimensions.values() if isinstance(dimension, Choices)]
        rows = list(itertools.product(*values))
        order = generator(self._settings.seed, "grid").permutation(len(rows))
        return [dict(zip(keys, rows[i], strict=True)) for i in order]


def _distribution(dimension: object) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from velm_train.cli.search_space import Interval

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    assert isinstance(dimension, Interval)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _require_same(study: "optuna.Study", path: Path, *, body: dict[str, object]) -> None:
    if SPACE not in study.user_attrs:
        study.set_user_attr(SPACE, body)
        return
    kept = study.user_attrs[SPACE]
    differing = [key for key in body if json.dumps(kept[key], sort_keys=True) != json.dumps(body[key], sort_keys=True)]
    if differing:
        told = "; ".join(f"{key}: {json.dumps(kept[key])} there, {json.dumps(body[key])} here" for key in differing)
        raise ConfigError(
            f"{path} holds a study of something else ({told}); give the same words to go on with it, or another "
            "hydra.sweep.dir or hydra.sweeper.storage to begin anew"
        )


def _fact(trial: "optuna.trial.FrozenTrial") -> StudyTrial:
    states: dict[str, TrialState] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
    name = trial.state.name
    return StudyTrial(
        number=trial.number,
        state=states[name] if name in states else "open",
        value=trial.value if name == "COMPLETE" else None,
        settings={key: str(value) for key, value in trial.params.items()},
        reason=trial.user_attrs[REASON] if REASON in trial.user_attrs else "",
        last_step=trial.last_step,
    )
