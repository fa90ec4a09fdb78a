"""True and given labels go in; accuracy, macro-F1 and kappa as in VELM's released evaluation come out.

That evaluation (arXiv 2505.02626, eval.py) is scikit-learn's accuracy, macro-F1 and Cohen's kappa of each category over
all its images, normal ones included, then the mean over categories. Its classes are the labels that happen to occur,
true or given, so that a single misspelt answer is one more class with an F1 of zero. `metrics/system.py` has the
figures with fixed label lists; these are here so that published numbers can be told apart from better ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from velm_train.core.errors import DataError
from velm_train.core.published import LabelledAnswer, PublishedCategory, PublishedScores
from velm_train.core.scores import Score
from velm_train.metrics.intervals import Values, Weights, bootstrap_score, stratified_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class _Category:
    """One category's images by place, their labels by number, and the number of labels that occur."""

    name: str
    members: Int[np.ndarray, " m"]
    gt: Int[np.ndarray, " m"]
    pred: Int[np.ndarray, " m"]
    num_labels: int


def published_scores(answers: Sequence[LabelledAnswer], *, num_bootstrap: int, seed: int) -> PublishedScores:
    """Scores answers as VELM's released evaluation does, with bootstrap intervals that it does not have.

    Args:
        answers: one an image.
        num_bootstrap: resamples for each interval, within category and true label.
        seed: root seed.

    Raises:
        DataError: if there is no answer.
    """
    if not answers:
        raise DataError("there is no answer to score; at least one image is needed")
    rows = sorted(answers, key=lambda row: row.image_id)
    categories = [_category(rows, name) for name in sorted({row.category for row in rows})]
    strata = np.zeros(len(rows), dtype=np.int64)
    for number, category in enumerate(categories):
        strata[category.members] = number * (1 + len(rows)) + category.gt
    weights = stratified_weights(strata, num_bootstrap=num_bootstrap, seed=seed)
    once = np.ones((1, len(rows)))
    right = np.array([row.gt_label == row.pred_label for row in rows], dtype=np.bool_)
    undefined = [category.name for category in categories if np.isnan(kappa_values(category, once)[0])]
    note = f"without {', '.join(undefined)}: one label alone occurs" if undefined else ""
    measured = [category for category in categories if category.name not in undefined]
    truths = {(row.category, row.gt_label) for row in rows}
    return PublishedScores(
        accuracy=bootstrap_score(lambda w: _mean(categories, accuracy_values, w), weights, n=len(rows), hits=right),
        macro_f1=bootstrap_score(lambda w: _mean(categories, macro_f1_values, w), weights, n=len(rows), hits=right),
        kappa=bootstrap_score(lambda w: _mean(measured, kappa_values, w), weights, n=len(rows), note=note)
        if measured
        else Score.undefined(note, n=len(rows)),
        categories=tuple(
            PublishedCategory(
                category=category.name,
                num_images=len(category.members),
                accuracy=float(accuracy_values(category, once)[0]),
                macro_f1=float(macro_f1_values(category, once)[0]),
                kappa=None if category.name in undefined else float(kappa_values(category, once)[0]),
            )
            for category in categories
        ),
        foreign_labels=tuple(
            sorted(
                {
                    f"{row.category}: {row.pred_label}"
                    for row in rows
                    if (row.category, row.pred_label) not in truths and row.pred_label != "good"
                }
            )
        ),
    )


def accuracy_values(category: _Category, weights: Weights) -> Values:
    """Returns the share of images with their true label."""
    drawn = weights[:, category.members]
    return np.asarray((drawn @ (category.gt == category.pred).astype(np.float64)) / drawn.sum(axis=1))


def macro_f1_values(category: _Category, weights: Weights) -> Values:
    """Returns the mean F1 over the labels that occur in the resample, true or given."""
    gt, pred, both = _counts(category, weights)
    occurs = gt + pred > 0
    f1 = 2 * both / np.where(occurs, gt + pred, 1)
    return np.asarray(f1.sum(axis=1) / occurs.sum(axis=1))


def kappa_values(category: _Category, weights: Weights) -> Values:
    """Returns Cohen's kappa (1960), (p_o - p_e) / (1 - p_e); NaN where all images have and get one label."""
    gt, pred, both = _counts(category, weights)
    total = gt.sum(axis=1)
    observed = both.sum(axis=1) / total
    expected = (gt * pred).sum(axis=1) / total**2
    agrees_by_chance = expected >= 1
    return np.where(agrees_by_chance, np.nan, (observed - expected) / np.where(agrees_by_chance, 1, 1 - expected))


def _mean(categories: Sequence[_Category], metric: Callable[[_Category, Weights], Values], weights: Weights) -> Values:
    return np.asarray(np.mean([metric(category, weights) for category in categories], axis=0))


def _counts(
    category: _Category, weights: Weights
) -> tuple[Float[np.ndarray, "R L"], Float[np.ndarray, "R L"], Float[np.ndarray, "R L"]]:
    """Returns how often each label is true, given, and both, in each resample."""
    drawn = weights[:, category.members]
    labels = np.arange(category.num_labels)
    gt = (category.gt[:, None] == labels).astype(np.float64)
    pred = (category.pred[:, None] == labels).astype(np.float64)
    return drawn @ gt, drawn @ pred, drawn @ (gt * pred)


def _category(rows: Sequence[LabelledAnswer], name: str) -> _Category:
    members = [place for place, row in enumerate(rows) if row.category == name]
    labels = sorted({label for place in members for label in (rows[place].gt_label, rows[place].pred_label)})
    number = {label: index for index, label in enumerate(labels)}
    return _Category(
        name=name,
        members=np.array(members, dtype=np.int64),
        gt=np.array([number[rows[place].gt_label] for place in members], dtype=np.int64),
        pred=np.array([number[rows[place].pred_label] for place in members], dtype=np.int64),
        num_labels=len(labels),
    )
