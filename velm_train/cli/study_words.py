"""Trials and what became of them in, the lines that a sweep prints out."""

from pathlib import Path

from velm_train.cli.job_outcomes import Outcome
from velm_train.cli.study import Drawn
from velm_train.core.study import StudyFacts


def ended(drawn: Drawn, outcome: Outcome) -> str:
    """Returns the line about a job that the launcher is done with."""
    figure = "" if outcome.value is None else f" {100 * outcome.value:.1f} %"
    reason = f" ({outcome.reason})" if outcome.reason else ""
    return f"trial {drawn.number} {outcome.state}{figure}{reason}: {' '.join(drawn.words)}"


def summary(facts: StudyFacts, *, folder: Path) -> str:
    """Returns what a sweep came to, and how to look at it."""
    states = [trial.state for trial in facts.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "no trials"
    lines = [f"{len(states)} trials: {counts}"]
    best = facts.best
    if best is not None and best.value is not None:
        settings = " ".join(f"{key}={value}" for key, value in best.settings.items())
        lines.append(
            f"highest objective ({facts.objective}): {100 * best.value:.1f} % of trial {best.number}, {settings}"
        )
    elif states:
        lines.append("no trial gave a figure; main.log in the folder of each says why")
    if "open" in states:
        lines.append(f"the same command with hydra.sweep.dir={folder} goes on with those that are open")
    lines.append(f"compare them: python -m velm_train task=compare 'runs=[{folder}]'")
    return "\n".join(lines)
