"""Predictions of several runs go in; tests of every pair on the images that both tested come out.

Two images are the same if name, content and true type are the same. An image that only one run tested says nothing
about a difference and is left out, and counted.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from velm_train.core.comparison import ALL_IMAGES, ImageMatch, PairedTest, RunPair
from velm_train.core.records import Prediction
from velm_train.core.scores import PairedDifference
from velm_train.metrics.intervals import paired_difference
from velm_train.metrics.system import end_to_end_values
from velm_train.metrics.table import PredictionTable, make_table


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAnswers:
    """One run's answers and what is known about its test images.

    Attributes:
        label: unique.
        predictions: one labelled row an image.
        label_sets: category -> its defect types, without "good".
        unknown_types: category -> those of its types that the run was never taught.
        contents: image_id -> hash of the picture, or None if it is not known.
        split_hash: hash of the whole split, contents included; "" if it is not known.
    """

    label: str
    predictions: Sequence[Prediction]
    label_sets: Mapping[str, Sequence[str]]
    unknown_types: Mapping[str, Sequence[str]]
    contents: Mapping[str, str] | None
    split_hash: str


def compare_pairs(
    runs: Sequence[RunAnswers], *, only_first: bool, num_bootstrap: int, seed: int
) -> tuple[RunPair, ...]:
    """Compares every two runs, or every run with the first one, and corrects the p-values for the number of pairs.

    Args:
        runs: in the order of the labels.
        only_first: whether to compare with the first run alone.
        num_bootstrap: resamples for the interval of each difference.
        seed: root seed of the resampling.

    Raises:
        DataError: if predictions do not fit their label lists.
    """
    pairs = [
        compare_pair(first, other, num_bootstrap=num_bootstrap, seed=seed)
        for first, other in itertools.combinations(runs, 2)
        if not only_first or first is runs[0]
    ]
    names = dict.fromkeys(test.images for pair in pairs for test in pair.tests)
    for name in names:
        tested = [i for i, pair in enumerate(pairs) if pair.test(name) is not None]
        raw = [test.paired.mcnemar_p_value for i in tested if (test := pairs[i].test(name)) is not None]
        for i, p_value in zip(tested, holm(raw), strict=True):
            pairs[i] = _with_adjusted(pairs[i], name, p_value)
    return tuple(pairs)


def compare_pair(first: RunAnswers, other: RunAnswers, *, num_bootstrap: int, seed: int) -> RunPair:
    """Tests how `other` differs from `first` on the images that both tested; the p-values are not corrected yet."""
    if not _contents_comparable(first, other):
        unknown = " and ".join(run.label for run in (first, other) if run.contents is None)
        note = f"no test: the split of {unknown} cannot be read, so nobody knows whether the images are the same"
        return RunPair(first=first.label, other=other.label, match=None, tests=(), note=note)
    shared, match = match_images(first, other)
    if not shared:
        note = "no test: the two runs share no test image of the same name, content and true type"
        return RunPair(first=first.label, other=other.label, match=match, tests=(), note=note)
    label_sets = _joined_labels(first, other)
    tables = [_table(run, shared, label_sets) for run in (first, other)]
    sets = _sets_of_images(*tables)
    tests = []
    for name, keep in sets.items():
        paired = _difference(tables[0].select(keep), tables[1].select(keep), num_bootstrap=num_bootstrap, seed=seed)
        p_value = paired.mcnemar_p_value
        tests.append(PairedTest(images=name, num_images=int(keep.sum()), paired=paired, adjusted_p_value=p_value))
    note = "" if match.is_complete else f"on the {match.num_shared} images that both tested alone"
    return RunPair(first=first.label, other=other.label, match=match, tests=tuple(tests), note=note)


def match_images(first: RunAnswers, other: RunAnswers) -> tuple[frozenset[str], ImageMatch]:
    """Returns the ids of the images that are the same in both runs, and how many are not."""
    first_rows = {row.image_id: row for row in first.predictions}
    other_rows = {row.image_id: row for row in other.predictions}
    named_alike = first_rows.keys() & other_rows.keys()
    changed = {image_id for image_id in named_alike if not _same_content(image_id, first, other)}
    relabelled = {
        image_id
        for image_id in named_alike - changed
        if first_rows[image_id].gt_defect_type != other_rows[image_id].gt_defect_type
    }
    shared = frozenset(named_alike - changed - relabelled)
    return shared, ImageMatch(
        num_shared=len(shared),
        num_only_first=len(first_rows) - len(named_alike),
        num_only_other=len(other_rows) - len(named_alike),
        num_changed=len(changed),
        num_relabelled=len(relabelled),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values corrected for their number by the step-down method of Holm (1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _contents_comparable(first: RunAnswers, other: RunAnswers) -> bool:
    known = first.contents is not None and other.contents is not None
    return known or (bool(first.split_hash) and first.split_hash == other.split_hash)


def _same_content(image_id: str, first: RunAnswers, other: RunAnswers) -> bool:
    if first.contents is None or other.contents is None:
        return True  # the hashes of the whole splits are equal, contents included
    return first.contents[image_id] == other.contents[image_id]


def _joined_labels(first: RunAnswers, other: RunAnswers) -> dict[str, list[str]]:
    """Returns label lists that hold both runs' types, in an order that does not depend on which run comes first."""
    categories = sorted({*first.label_sets, *other.label_sets})
    return {
        name: sorted({label for run in (first, other) if name in run.label_sets for label in run.label_sets[name]})
        for name in categories
    }


def _sets_of_images(first: PredictionTable, other: PredictionTable) -> dict[str, Bool[np.ndarray, " n"]]:
    """Returns all images, and each group if there are several; a category counts if both runs put it in that group."""
    groups = {name: np.array(first.group) == name for name in sorted(set(first.group))}
    both = {name: keep & (np.array(other.group) == name) for name, keep in groups.items()}
    sets = {ALL_IMAGES: np.ones(len(first), dtype=np.bool_)}
    return sets | {name: keep for name, keep in both.items() if keep.any() and len(both) > 1}


def _table(run: RunAnswers, shared: frozenset[str], label_sets: Mapping[str, Sequence[str]]) -> PredictionTable:
    rows = [row for row in run.predictions if row.image_id in shared]
    return make_table(rows, label_sets=label_sets, unknown_types=run.unknown_types)


def _difference(first: PredictionTable, other: PredictionTable, *, num_bootstrap: int, seed: int) -> PairedDifference:
    return paired_difference(first, other, metric=end_to_end_values, num_bootstrap=num_bootstrap, seed=seed)


def _with_adjusted(pair: RunPair, images: str, p_value: float) -> RunPair:
    tests = [replace(test, adjusted_p_value=p_value) if test.images == images else test for test in pair.tests]
    return replace(pair, tests=tuple(tests))
