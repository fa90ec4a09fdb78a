"""A run that the study of its sweep prunes ends well, says so, and leaves no checkpoint behind."""

import optuna
import pytest

from velm_train.cli.study import PRUNER, STUDY, WARM_UP, open_storage
from velm_train.cli.trial import NUMBER, STORAGE
from velm_train.core.objective import read_objective
from velm_train.training.checkpoint_files import FOLDER_NAME

pytestmark = pytest.mark.slow


def checkpoints(artifacts):
    return {path for path in artifacts.glob(f"adapters/.partial-*/{FOLDER_NAME}/*") if path.suffix == ".ckpt"}


def test_run_worse_than_the_one_before_it_is_pruned(run_again, artifacts, monkeypatch, tmp_path) -> None:
    study = optuna.create_study(
        study_name=STUDY, storage=open_storage(tmp_path / "study.journal"), direction="maximize"
    )
    study.set_user_attr(PRUNER, "median")
    study.set_user_attr(WARM_UP, 1)
    other = study.ask()
    for step, loss in ((1, 100.0), (2, 0.0)):
        other.report(-loss, step)
    study.tell(other, 1.0)
    study.ask()
    monkeypatch.setenv(STORAGE, str(tmp_path / "study.journal"))
    monkeypatch.setenv(NUMBER, "1")
    before = checkpoints(artifacts)
    run = run_again("task=train", "trainer.lora_learning_rate=1.0e-3", "callbacks.checkpoint_every=1", "logger=none")
    assert "pruned at step 2 of 3" in run.shown
    objective = read_objective(run.folder)
    assert (objective.state, objective.value) == ("pruned", None)
    assert checkpoints(artifacts) == before
