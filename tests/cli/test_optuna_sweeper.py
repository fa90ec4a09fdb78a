"""hydra/sweeper=optuna by the real entry point and the real Optuna; a launcher that answers instead of running jobs."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from velm_train.cli import plugins
from velm_train.cli.launch import sweep as launch_sweep
from velm_train.cli.launch.record import State, new_record, write_job
from velm_train.cli.main import main
from velm_train.cli.trial import NUMBER, STORAGE, prune_rule
from velm_train.config.launching import ProcessSettings
from velm_train.core.errors import ConfigError
from velm_train.core.objective import Objective, write_objective
from velm_train.core.study import StudyFacts, read_study

Answer = Callable[[int, dict[str, str], Path], None]


class AnsweringLauncher(Launcher):
    """Has a function of the test do what jobs would."""

    answer: Answer
    batches: list[list[int]]

    def __init__(self, max_parallel: int) -> None:
        """Takes what the default launcher does."""

    def setup(self, *, hydra_context, task_function, config) -> None:  # noqa: ARG002 - Hydra's
        self._folder = Path(config.hydra.sweep.dir)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        type(self).batches.append(list(range(initial_job_idx, initial_job_idx + len(job_overrides))))
        for number, words in enumerate(job_overrides, start=initial_job_idx):
            folder = self._folder / str(number)
            folder.mkdir(exist_ok=True)
            type(self).answer(number, dict(word.split("=", 1) for word in words), folder)
        return []


def finish(folder: Path, value: float | None) -> None:
    write_objective(folder, Objective(version=1, name="all", value=value, state="finished"))


def by_rank(number: int, words: dict[str, str], folder: Path) -> None:
    finish(folder, 1 / float(words["lora.r"]))


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a sweep command in-process; returns the study and the batches that were launched."""
    monkeypatch.setattr(plugins, "PLUGINS", (*plugins.PLUGINS, AnsweringLauncher))
    monkeypatch.setitem(launch_sweep._SETTINGS, "hydra_plugins.velm_train.AnsweringLauncher", ProcessSettings)

    def run(*words: str, answer: Answer = by_rank) -> tuple[StudyFacts, list[list[int]]]:
        AnsweringLauncher.answer, AnsweringLauncher.batches = staticmethod(answer), []
        command = [
            "velm_train",
            "--multirun",
            "hydra/sweeper=optuna",
            "hydra.launcher._target_=hydra_plugins.velm_train.AnsweringLauncher",
            f"hydra.sweep.dir={tmp_path / 'sweep'}",
            f"paths.outputs={tmp_path / 'runs'}",
            *words,
        ]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        if ended.value.code != 0:
            raise ended.value
        facts = read_study(tmp_path / "sweep")
        assert facts is not None
        return facts, AnsweringLauncher.batches

    return run


@pytest.fixture
def problem(sweep, capsys):
    def run(*words: str, answer: Answer = by_rank) -> str:
        with pytest.raises(SystemExit) as caught:
            sweep(*words, answer=answer)
        assert caught.value.code == 2
        return capsys.readouterr().err

    return run


def test_grid_tries_every_combination_once_and_names_the_best(sweep, capsys) -> None:
    facts, batches = sweep(
        "hydra.sweeper.sampler=grid", "hydra.sweeper.n_trials=null", "lora.r=choice(4,8)", "look_twice=map,off"
    )
    tried = sorted((t.settings["lora.r"], t.settings["look_twice"]) for t in facts.trials)
    assert tried == [("4", "map"), ("4", "off"), ("8", "map"), ("8", "off")]
    assert batches == [[0], [1], [2], [3]]
    assert facts.best.settings["lora.r"] == "4"
    assert "highest objective (all): 25.0 %" in capsys.readouterr().out


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_stopped_sweep_draws_what_the_undisturbed_one_does(sweep, tmp_path: Path, sampler: str) -> None:
    words = (f"hydra.sweeper.sampler={sampler}", "lora.r=range(2,40,2)", "look_twice=map,off,fused")
    whole, _ = sweep(*words, "hydra.sweeper.n_trials=9", "hydra.sweeper.startup_trials=3")
    (tmp_path / "sweep").rename(tmp_path / "whole")
    sweep(*words, "hydra.sweeper.n_trials=5", "hydra.sweeper.startup_trials=3")
    again, batches = sweep(*words, "hydra.sweeper.n_trials=9", "hydra.sweeper.startup_trials=3")
    assert batches == [[5], [6], [7], [8]]
    assert [t.settings for t in again.trials] == [t.settings for t in whole.trials]


def test_jobs_go_to_the_launcher_several_at_a_time(sweep) -> None:
    _, batches = sweep("hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2", "lora.r=range(2,40)")
    assert batches == [[0, 1], [2, 3], [4]]


def note_job(folder: Path, state: State, *, exit_status: int | None = None, message: str = "") -> None:
    record = new_record(int(folder.name), ())
    write_job(folder, replace(record, state=state, exit_status=exit_status, message=message))


def test_failed_jobs_are_noted_with_their_reason_and_do_not_end_the_sweep(sweep) -> None:
    def answer(number: int, words: dict[str, str], folder: Path) -> None:
        if number == 1:
            note_job(folder, "failed", exit_status=2, message="ConfigError: lora.r=0")
        elif number == 2:
            finish(folder, None)
        elif number != 3:
            finish(folder, 0.5)

    facts, _ = sweep("hydra.sweeper.n_trials=5", "lora.r=choice(4,8,16)", answer=answer)
    assert [t.state for t in facts.trials] == ["finished", "failed", "failed", "failed", "finished"]
    assert [t.reason for t in facts.trials[1:4]] == [
        "exit status 2: ConfigError: lora.r=0",
        "its test images do not define the objective",
        "left no figure",
    ]


def test_preempted_job_stays_open_and_is_launched_again_first(sweep) -> None:
    def preempt(number: int, words: dict[str, str], folder: Path) -> None:
        if number == 1:
            note_job(folder, "preempted", exit_status=75)
        else:
            finish(folder, 0.5)

    words = ("lora.r=choice(4,8,16)", "seed=3")
    facts, _ = sweep("hydra.sweeper.n_trials=3", *words, answer=preempt)
    assert [t.state for t in facts.trials] == ["finished", "open", "finished"]
    drawn = facts.trials[1].settings
    seen: list[dict[str, str]] = []

    def note(number: int, words: dict[str, str], folder: Path) -> None:
        seen.append(words)
        finish(folder, 0.7)

    facts, batches = sweep("hydra.sweeper.n_trials=3", *words, answer=note)
    assert batches == [[1]]
    assert {key: seen[0][key] for key in ("seed", "lora.r")} == {"seed": "3", **drawn}
    assert facts.best.number == 1


def test_job_that_ended_while_the_sweep_was_down_is_not_run_again(sweep, tmp_path: Path) -> None:
    def leave(number: int, words: dict[str, str], folder: Path) -> None:
        note_job(folder, "running")

    sweep("hydra.sweeper.n_trials=1", "lora.r=choice(4,8)", answer=leave)
    finish(tmp_path / "sweep" / "0", 0.9)
    facts, batches = sweep("hydra.sweeper.n_trials=1", "lora.r=choice(4,8)")
    assert batches == []
    assert facts.best.value == 0.9


def test_settings_that_are_impossible_together_fail_their_trial_alone(sweep) -> None:
    facts, batches = sweep(
        "hydra.sweeper.sampler=grid",
        "hydra.sweeper.n_trials=null",
        "lora.r=8",
        "lora.quantisation=choice(none,nf4)",
        "trainer.precision=choice(32-true,16-mixed)",
        answer=lambda number, words, folder: finish(folder, 0.5),
    )
    (failed,) = [t for t in facts.trials if t.state == "failed"]
    assert failed.settings == {"lora.quantisation": "nf4", "trainer.precision": "16-mixed"}
    assert "trainer.precision=16-mixed is not possible" in failed.reason
    assert sorted(number for batch in batches for number in batch) == sorted({0, 1, 2, 3} - {failed.number})


def test_intervals_are_drawn_as_asked(sweep) -> None:
    facts, _ = sweep(
        "hydra.sweeper.n_trials=12",
        "hydra.sweeper.sampler=random",
        "trainer.lora_learning_rate=tag(log,interval(1e-5,1e-3))",
        "lora.r=int(interval(2,9))",
    )
    rates = [float(t.settings["trainer.lora_learning_rate"]) for t in facts.trials]
    assert all(1e-5 <= rate <= 1e-3 for rate in rates)
    assert sum(rate < 1e-4 for rate in rates) in range(2, 11)  # half of them, by the logarithm
    assert {int(t.settings["lora.r"]) for t in facts.trials} <= set(range(2, 10))


def test_importance_is_that_of_the_setting_that_matters(sweep) -> None:
    facts, _ = sweep(
        "hydra.sweeper.n_trials=12", "hydra.sweeper.sampler=random", "lora.r=choice(4,64)", "look_twice=map,off"
    )
    assert facts.importances["lora.r"] > 0.8
    assert sum(facts.importances.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lora.r=8"], "nothing to search"),
        (["seed=1,2"], "seed cannot be searched"),
        (["lora.r=interval(9,2)"], "from low to high"),
        (["lora.r=tag(log,choice(1,2))"], "only tag that is known"),
        (["lora.r=choice(4,8)", "hydra.sweeper.sampler=cma"], "allowed: tpe, random, grid"),
        (["lora.r=choice(4,8)", "hydra.sweeper.pruner=x"], "allowed: none, median, hyperband"),
        (["lora.r=choice(4,8)", "hydra.sweeper.n_trials=null"], "sampler=grid alone"),
        (["lora.r=choice(4,8)", "hydra.sweeper.n_jobs=0"], "1 or more"),
        (["lora.r=int(interval(4,8))", "hydra.sweeper.sampler=grid"], "cannot try every value of an interval"),
        (["lora.r=choice(4,8)", "gate.alpha=7"], "gate.alpha"),
        (["lora.r=choice(4,8)", "task=detect"], "run with hydra/sweeper=optuna"),
        (["lora.r=choice(4,8)", "objective=f1"], "objective=f1"),
    ],
)
def test_impossible_sweep_is_refused_in_one_line_before_any_job(problem, words: list[str], told: str) -> None:
    error = problem(*words)
    assert told in error
    assert error.count("\n") == 1
    assert AnsweringLauncher.batches == []


def test_storage_of_another_sweep_is_refused_with_the_difference(sweep, problem) -> None:
    sweep("hydra.sweeper.n_trials=1", "lora.r=choice(4,8)")
    assert '"lora.r": ["4", "8"]' in problem("hydra.sweeper.n_trials=1", "lora.r=choice(4,16)")


def test_pruner_ends_the_worse_of_two_jobs_at_the_same_step(sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[list[bool]] = []

    def train(number: int, words: dict[str, str], folder: Path) -> None:
        setting = {name: words[f"++hydra.job.env_set.{name}"].strip("'") for name in (STORAGE, NUMBER)}
        rule = prune_rule(setting)
        loss = 1.0 if number < 2 else 2.0
        ends.append([rule.prunes(loss / step, step=step, max_steps=6) for step in (2, 4)])
        if any(ends[-1]):
            write_objective(folder, Objective(version=1, name="all", value=None, state="pruned"))
        else:
            finish(folder, 0.5)

    facts, _ = sweep(
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.pruner=median",
        "hydra.sweeper.startup_trials=2",
        "lora.r=range(2,40)",
        answer=train,
    )
    assert ends == [[False, False], [False, False], [True, True]]
    assert [t.state for t in facts.trials] == ["finished", "finished", "pruned"]
    assert [t.last_step for t in facts.trials] == [4, 4, 4]


def test_hyperband_ends_some_jobs(sweep) -> None:
    def train(number: int, words: dict[str, str], folder: Path) -> None:
        rule = prune_rule({name: words[f"++hydra.job.env_set.{name}"].strip("'") for name in (STORAGE, NUMBER)})
        if any(rule.prunes(float(number), step=step, max_steps=9) for step in (1, 3, 9)):
            write_objective(folder, Objective(version=1, name="all", value=None, state="pruned"))
        else:
            finish(folder, 0.5)

    facts, _ = sweep("hydra.sweeper.n_trials=6", "hydra.sweeper.pruner=hyperband", "lora.r=range(2,40)", answer=train)
    assert {t.state for t in facts.trials} == {"finished", "pruned"}


def test_run_outside_of_a_sweep_is_not_pruned() -> None:
    assert prune_rule({}) is None


def test_storage_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no file"):
        prune_rule({STORAGE: str(tmp_path / "gone"), NUMBER: "0"})
