"""Environment variables of a sweep's job in; the rule that may end its training early out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from velm_train.core.errors import ConfigError
from velm_train.core.pruning import PruneRule

if TYPE_CHECKING:
    import optuna

STORAGE, NUMBER = "VELM_TRAIN_TRIAL_STORAGE", "VELM_TRAIN_TRIAL_NUMBER"


def words_of_trial(storage: Path, number: int) -> tuple[str, ...]:
    """Returns the words that set these variables in the job, whatever launches it and however often."""
    path = str(storage.resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return (f"++hydra.job.env_set.{STORAGE}='{path}'", f"++hydra.job.env_set.{NUMBER}='{number}'")


def prune_rule(environment: Mapping[str, str]) -> PruneRule | None:
    """Returns the rule of this job's sweep, or None for a run outside of a sweep, and for one without pruning.

    Raises:
        ConfigError: if the sweep's storage has no such trial.
    """
    if STORAGE not in environment or NUMBER not in environment:
        return None
    return TrialRule(Path(environment[STORAGE]), number=int(environment[NUMBER]))


class TrialRule:
    """Reports losses to the study, and asks its pruner."""

    def __init__(self, storage: Path, *, number: int) -> None:
        """Finds the trial.

        Raises:
            ConfigError: if there is none.
        """
        import optuna

        from velm_train.cli.study import PRUNER, STUDY, WARM_UP, open_storage, require_optuna

        require_optuna()
        if not storage.is_file():
            raise ConfigError(f"{STORAGE}={storage} is no file; give the sweep command again")
        self._study = optuna.load_study(study_name=STUDY, storage=open_storage(storage))
        trials = self._study.get_trials(deepcopy=False)
        if number >= len(trials):
            raise ConfigError(f"{STORAGE}={storage} has no trial {number}; give the sweep command again")
        self._trial = optuna.trial.Trial(self._study, trials[number]._trial_id)
        self._kind = str(self._study.user_attrs[PRUNER])
        self._startup_trials = int(self._study.user_attrs[WARM_UP])
        self._reported: Sequence[int] = sorted(trials[number].intermediate_values)
        self._ended = trials[number].state.is_finished()

    def prunes(self, loss: float, *, step: int, max_steps: int) -> bool:
        """Reports the loss, once for every step, and says whether the pruner ends the trial.

        The study's direction is that of the objective, so that a loss is reported with its sign turned.
        """
        if self._ended:
            return False
        if step not in self._reported:
            self._trial.report(-loss, step)
        self._study.pruner = self._pruner(max_steps)
        return bool(self._trial.should_prune())

    def _pruner(self, max_steps: int) -> "optuna.pruners.BasePruner":
        import optuna

        if self._kind == "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=max_steps, reduction_factor=3)
        assert self._kind == "median"
        return optuna.pruners.MedianPruner(n_startup_trials=self._startup_trials)
