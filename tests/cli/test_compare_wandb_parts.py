"""Offline W&B folders of a run that was stopped and went on are one run to task=compare, as they are once synced."""

from pathlib import Path

import pytest
import wandb

from velm_train.cli.compare_runs import find_finished_runs
from velm_train.core.errors import DataError
from velm_train.core.scrubbing import make_scrubber
from velm_train.reporting.compare_figures import curve_of, figures_of_summary
from velm_train.training.loggers import LoggerChoice, WandbRunFacts, finish_loggers, make_loggers


def log_part(folder: Path, *steps: int, recall: float | None = None) -> None:
    facts = WandbRunFacts(
        project="p", name="n", group=None, tags=(), job_type="run", config={"lora": {"r": 8}}, final_step=9
    )
    choice = LoggerChoice(wandb_mode="offline", tensorboard=False, timeout_s=20.0)
    loggers = make_loggers(choice, facts, folder=folder, scrubber=make_scrubber({}))
    for logger in loggers:
        for step in steps:
            logger.log_metrics({"loss/total": 1 / step}, step=step)
        if recall is not None:
            logger.log_metrics({"system/end_to_end_balanced_recall": recall})
    assert finish_loggers(loggers, failed=recall is None, hurried=False) == ()
    wandb.teardown()  # has the library's process write the rest


@pytest.mark.slow
def test_parts_of_a_stopped_run_are_one_run(tmp_path: Path) -> None:
    log_part(tmp_path / "stopped", 1, 2)
    log_part(tmp_path / "stopped", 2, 3, recall=0.75)
    log_part(tmp_path / "whole", 1, recall=0.5)
    runs, skipped = find_finished_runs([str(tmp_path)], apart=tmp_path / "comparison")
    assert skipped == ()
    stopped, whole = runs
    assert [point.step for point in curve_of(stopped.wandb)] == [1, 2, 3]
    assert figures_of_summary(stopped.wandb[-1])["system/end_to_end_balanced_recall"].value == 0.75
    assert figures_of_summary(whole.wandb[-1])["system/end_to_end_balanced_recall"].value == 0.5
    with pytest.raises(DataError, match="holds 1 finished run"):
        find_finished_runs([str(tmp_path / "stopped")], apart=tmp_path / "comparison")
