"""Answers to MMAD go in; the figures of its published scorer come out, with every behaviour that moves them.

Source: jam-cc/MMAD, evaluation/helper/summary.py (`caculate_accuracy_mmad`) and `parse_answer` of its query scripts.
What it does, on purpose or not:

- an answer that is no letter from A to E is removed, from the list that is being iterated over: the answer behind it is
  passed over as well, and neither is in any denominator;
- an image without answers is in no denominator;
- a subtask that occurs in one data set counts as 0 in every other that lacks it;
- the anomaly-detection score is the mean of the accuracies on normal and anomalous images, 0 where there are none.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from velm_train.core.benchmarks import DETECTION_SUBTASK, ChoiceAnswer

LETTERS = ("A", "B", "C", "D", "E")

_LONE_LETTER = re.compile(r"\b([A-E])\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class OfficialScores:
    """What the published scorer gives, as fractions.

    Attributes:
        cells: data set and subtask -> score; every pair of those that occur.
        datasets: data set -> mean over subtasks.
        subtasks: subtask -> mean over data sets.
        average: mean over data sets; None without answers.
        num_removed: answers removed.
        num_skipped: answers passed over behind them.
    """

    cells: Mapping[tuple[str, str], float]
    datasets: Mapping[str, float]
    subtasks: Mapping[str, float]
    average: float | None
    num_removed: int
    num_skipped: int


def parse_like_mmad(response: str, options: Mapping[str, str]) -> str:
    """Returns the letter that MMAD's scripts take from a response.

    The last capital letter from A to E that stands alone, be it the article "A"; without one the letter of the option
    whose text is closest, however far it is.
    """
    letters = _LONE_LETTER.findall(response)
    if letters:
        return str(letters[-1])
    closest = difflib.get_close_matches(response, list(options.values()), n=1, cutoff=0.0)
    return next(letter for letter, text in options.items() if text == closest[0]) if closest else response


def official_scores(answers: Sequence[ChoiceAnswer]) -> OfficialScores:
    """Scores answers as MMAD does.

    Args:
        answers: in the order of the file, which matters; unanswered questions are not among them.
    """
    kept, num_removed, num_skipped = _kept(answers)
    datasets = list(dict.fromkeys(answer.dataset for answer in answers))
    subtasks = list(dict.fromkeys(answer.subtask for answer in answers))
    cells = {
        (dataset, subtask): _cell(kept, dataset=dataset, subtask=subtask)
        for dataset in datasets
        for subtask in subtasks
    }
    by_dataset = {name: _mean([cells[(name, subtask)] for subtask in subtasks]) for name in datasets}
    return OfficialScores(
        cells=cells,
        datasets=by_dataset,
        subtasks={name: _mean([cells[(dataset, name)] for dataset in datasets]) for name in subtasks},
        average=_mean(list(by_dataset.values())) if by_dataset else None,
        num_removed=num_removed,
        num_skipped=num_skipped,
    )


def official_letter(answer: ChoiceAnswer) -> str:
    """Returns the letter in the file, or the one that MMAD's scripts would have made of the response beside it."""
    return answer.said if answer.response is None else parse_like_mmad(answer.response, answer.options)


def _kept(answers: Sequence[ChoiceAnswer]) -> tuple[list[tuple[ChoiceAnswer, str]], int, int]:
    """Returns what survives removal while iterating, with its letter, and how many were removed and skipped."""
    kept = []
    num_removed = num_skipped = 0
    skip = False
    for answer in answers:
        if skip:
            num_skipped += 1
            skip = False
            continue
        letter = official_letter(answer)
        if letter in LETTERS and answer.gt_letter in LETTERS:
            kept.append((answer, letter))
        else:
            num_removed += 1
            skip = True
    return kept, num_removed, num_skipped


def _cell(kept: Sequence[tuple[ChoiceAnswer, str]], *, dataset: str, subtask: str) -> float:
    own = [(a.shows_normal, a.gt_letter == said) for a, said in kept if (a.dataset, a.subtask) == (dataset, subtask)]
    if subtask != DETECTION_SUBTASK:
        return _mean([right for _, right in own])
    return _mean([_mean([right for shows_normal, right in own if shows_normal == kind]) for kind in (True, False)])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
