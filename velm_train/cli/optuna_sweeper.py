"""`hydra/sweeper=optuna`: a search space in; jobs for the launcher out, each drawn from what came of those before."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from velm_train.cli.compose import typed
from velm_train.cli.job_outcomes import outcome_of
from velm_train.cli.search_space import SearchSpace, read_search_space
from velm_train.cli.study import Drawn, StudySettings, TrialStudy, require_optuna
from velm_train.cli.study_words import ended, summary
from velm_train.cli.trial import words_of_trial
from velm_train.config import Config
from velm_train.config.checks import at_least, one_of, require
from velm_train.core.errors import ConfigError
from velm_train.core.locks import sole_right
from velm_train.core.study import write_study

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("none", "median", "hyperband")
STORAGE_NAME = "study.journal"


class OptunaSweeper(Sweeper):
    """Draws settings, has the launcher run them, and tells Optuna what came of them.

    A job that fails or is pruned is noted as such and does not end the sweep. The same command with the same storage
    goes on where it was stopped.
    """

    def __init__(
        self,
        sampler: str,
        pruner: str,
        n_trials: int | None,
        n_jobs: int,
        seed: int,
        startup_trials: int,
        storage: str | None,
        params: Mapping[str, str],
    ) -> None:
        """Remembers `hydra.sweeper.*`; `sweep` checks it, because Hydra buries what a constructor says.

        Args:
            sampler: tpe, random or grid.
            pruner: none, median or hyperband.
            n_trials: how many jobs; None with sampler grid for all combinations.
            n_jobs: jobs at a time.
            seed: of the draws, not of the runs.
            startup_trials: trials that are drawn at random, and that none is pruned before.
            storage: Optuna's journal; None for study.journal in the sweep folder.
            params: setting -> choice(...), range(...) or interval(...).
        """
        self._settings = StudySettings(
            sampler=sampler, pruner=pruner, startup_trials=startup_trials, n_trials=n_trials, seed=seed
        )
        self._n_jobs = n_jobs
        self._storage = storage
        self._params = dict(params)
        self._console = Console()
        self._config: DictConfig
        self._context: HydraContext
        self._launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Takes what Hydra hands over before `sweep`."""
        self._config = config
        self._context = hydra_context
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs jobs until there are as many as asked for.

        Args:
            arguments: words of the command line, choices among them.

        Raises:
            ConfigError: if a setting or word is impossible, Optuna is not installed, or the storage is another sweep's.
        """
        self._check_settings()
        require_optuna()
        parser = OverridesParser.create(config_loader=self._context.config_loader)
        space = read_search_space(self._params, arguments, parser=parser)
        self._sweep(space, objective=self._objective(space))

    def _check_settings(self) -> None:
        settings = self._settings
        one_of("hydra.sweeper.sampler", settings.sampler, SAMPLERS)
        one_of("hydra.sweeper.pruner", settings.pruner, PRUNERS)
        require(
            settings.n_trials is not None or settings.sampler == "grid",
            key="hydra.sweeper.n_trials",
            got="null",
            allowed="a number; null, for all combinations, with hydra.sweeper.sampler=grid alone",
        )
        at_least("hydra.sweeper.n_trials", 1 if settings.n_trials is None else settings.n_trials, 1)
        at_least("hydra.sweeper.n_jobs", self._n_jobs, 1)
        at_least("hydra.sweeper.seed", settings.seed, 0)
        at_least("hydra.sweeper.startup_trials", settings.startup_trials, 1)

    def _sweep(self, space: SearchSpace, *, objective: str) -> None:
        folder = Path(str(self._config.hydra.sweep.dir))
        storage = folder / STORAGE_NAME if self._storage is None else Path(self._storage).expanduser()
        for place in (folder, storage.parent):
            place.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self._config, folder / "multirun.yaml")
        with sole_right(storage.with_name(f".{storage.name}.sweeper"), on_wait=lambda: _refuse_second(storage)):
            study = TrialStudy(storage, space=space, settings=self._settings, objective=objective)
            self._run_all(study, folder, storage)
        self._say(summary(study.facts(), folder=folder))

    def _objective(self, space: SearchSpace) -> str:
        """Composes a job's settings, so that what none could run is refused before the first; returns the objective.

        Raises:
            ConfigError: if neither of two very different jobs is possible.
        """
        first, last = space.examples()
        try:
            return self._composed(first).objective
        except ConfigError:
            return self._composed(last).objective

    def _composed(self, words: Sequence[str]) -> Config:
        """Composes one job's settings.

        Raises:
            ConfigError: if they are impossible.
        """
        composed = self._context.config_loader.load_sweep_config(self._config, list(words))
        with open_dict(composed):
            del composed["hydra"]
        config = typed(composed)
        require(
            config.task.name == "run",
            key="task.name",
            got=config.task.name,
            allowed="run with hydra/sweeper=optuna, which needs the figures of a whole run",
        )
        return config

    def _run_all(self, study: TrialStudy, folder: Path, storage: Path) -> None:
        begun = study.left_open()
        if study.num_trials:
            self._say(f"going on with {storage}: {study.num_trials} trials, {len(begun)} of them open")
        self._note(study, begun, folder, again=True)
        again = {drawn.number for drawn in study.left_open()}
        for drawn in begun:
            if drawn.number in again:
                self._launch(study, [drawn], folder, storage)
        while drawn_now := study.draw(self._n_jobs):
            self._launch(study, drawn_now, folder, storage)

    def _launch(self, study: TrialStudy, trials: Sequence[Drawn], folder: Path, storage: Path) -> None:
        """Has jobs run, those apart that the settings drawn make impossible."""
        possible = [drawn for drawn in trials if self._is_possible(study, drawn)]
        pruned = self._settings.pruner != "none"
        for batch in _without_gaps(possible):
            words = [(*one.words, *(words_of_trial(storage, one.number) if pruned else ())) for one in batch]
            self._launcher.launch(words, initial_job_idx=batch[0].number)
            self._note(study, batch, folder, again=False)
        write_study(folder, study.facts())

    def _is_possible(self, study: TrialStudy, drawn: Drawn) -> bool:
        try:
            self._composed(drawn.words)
        except ConfigError as error:
            study.fail(drawn.number, str(error))
            self._say(f"trial {drawn.number} failed ({error}): {' '.join(drawn.words)}")
            return False
        return True

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _note(self, study: TrialStudy, trials: Sequence[Drawn], folder: Path, *, again: bool) -> None:
        """Tells the study what the folders of its jobs say; with `again`, only of those that have ended."""
        for drawn in trials:
            outcome = outcome_of(folder / str(drawn.number))
            if outcome.state == "finished" and outcome.value is not None:
                study.finish(drawn.number, outcome.value)
            elif outcome.state == "pruned":
                study.prune(drawn.number)
            elif outcome.state == "failed" and not again:
                study.fail(drawn.number, outcome.reason)
            if not again:
                self._say(ended(drawn, outcome))
        write_study(folder, study.facts())


def _without_gaps(trials: Sequence[Drawn]) -> list[list[Drawn]]:
    """Returns runs of consecutive numbers, which is what a launcher takes."""
    batches: list[list[Drawn]] = []
    for one in trials:
        if batches and one.number == batches[-1][-1].number + 1:
            batches[-1].append(one)
        else:
            batches.append([one])
    return batches


def _refuse_second(storage: Path) -> None:
    require(
        False,
        key="hydra.sweeper.storage",
        got=storage,
        allowed="the file of one sweep at a time; another one is at work with it",
    )
