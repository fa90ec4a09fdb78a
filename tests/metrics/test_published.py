"""VELM's published figures come out of counts of the released answers; scikit-learn says the same."""

import csv
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score, f1_score

from velm_train.core.errors import DataError
from velm_train.core.published import LabelledAnswer
from velm_train.metrics.intervals import stratified_weights
from velm_train.metrics.published import _category, kappa_values, macro_f1_values, published_scores
from velm_train.metrics.scoreboard import score_rows
from velm_train.metrics.system import majority_predictions, perfect_gate_majority_predictions

COUNTS = Path(__file__).with_name("velm_counts.csv")
"""How often each class of MVTec-AC and VisA-AC was given each label by DDAD and GPT-4o; from the files released with
VELM (arXiv 2505.02626), labels as its label file spells them."""

REPAIRED = {
    "small-hole": "small-holes",
    "middle-breakage-small-scratches": "middle-breakage_small-scratches",
    "similar-colour-spots": "similar-colour-spot",
}


def released(dataset: str, *, repaired: bool = False) -> list[LabelledAnswer]:
    number = itertools.count()
    with COUNTS.open() as stream:
        lines = [line for line in csv.DictReader(stream) if line["dataset"] == dataset]
    keys = {"cashew": REPAIRED, "macaroni1": REPAIRED} if repaired else {}
    return [
        LabelledAnswer(
            image_id=f"{next(number):04d}",
            category=line["category"],
            gt_label=line["gt_label"],
            pred_label=keys.get(line["category"], {}).get(line["pred_label"], line["pred_label"]),
        )
        for line in lines
        for _ in range(int(line["count"]))
    ]


def percents(*scores) -> tuple[float, ...]:
    return tuple(round(100 * score.value, 1) for score in scores)


def as_predictions(answers, make):
    labels = defaultdict(set)
    for answer in answers:
        if answer.gt_label != "good":
            labels[answer.category].add(answer.gt_label)
    sets = {name: sorted(types) for name, types in labels.items()}
    rows = [
        make(
            answer.image_id,
            answer.gt_label,
            answer.pred_label if answer.pred_label in ("good", *sets[answer.category]) else None,
            category=answer.category,
            flagged=answer.pred_label != "good",
            score=float(answer.pred_label != "good"),
        )
        for answer in answers
    ]
    return rows, sets


@pytest.mark.parametrize(
    ("dataset", "num_images", "expected"),
    [("mvtec_ac", 1597, (84.0, 80.3, 79.7)), ("visa_ac", 1891, (69.6, 58.4, 55.5))],
)
def test_published_figures_to_one_decimal(dataset, num_images, expected):
    scores = published_scores(released(dataset), num_bootstrap=100, seed=0)
    assert scores.accuracy.n == num_images
    assert percents(scores.accuracy, scores.macro_f1, scores.kappa) == expected
    assert scores.accuracy.low < scores.accuracy.value < scores.accuracy.high


def test_repaired_label_keys_are_worth_two_points():
    scores = published_scores(released("visa_ac", repaired=True), num_bootstrap=10, seed=0)
    assert percents(scores.accuracy) == (71.6,)
    by_name = {one.category: one.accuracy for one in scores.categories}
    assert round(100 * by_name["cashew"], 1) == 63.0
    assert round(100 * by_name["macaroni1"], 1) == 77.4
    assert scores.foreign_labels == ()


def test_labels_that_are_nobodys_truth_are_named():
    assert published_scores(released("mvtec_ac"), num_bootstrap=10, seed=0).foreign_labels == ("screw: Unknown class",)
    assert len(published_scores(released("visa_ac"), num_bootstrap=10, seed=0).foreign_labels) == 3


@pytest.mark.parametrize(
    ("dataset", "repaired", "recall", "missed", "false_alarms"),
    [
        ("mvtec_ac", False, 77.8, (52, 1142), (4, 455)),
        ("visa_ac", False, 55.2, (189, 929), (130, 962)),
        ("visa_ac", True, 58.6, (189, 929), (130, 962)),
    ],
)
def test_the_honest_figures_beside_them(row, dataset, repaired, recall, missed, false_alarms):
    predictions, sets = as_predictions(released(dataset, repaired=repaired), row)
    overall = score_rows(predictions, label_sets=sets, num_bootstrap=10, seed=0).overall
    assert percents(overall.system.end_to_end_balanced_recall) == (recall,)
    assert (overall.detection.miss_rate.k, overall.detection.miss_rate.n) == missed
    assert (overall.detection.false_alarm_rate.k, overall.detection.false_alarm_rate.n) == false_alarms
    assert overall.detection.image_auroc.value is None
    assert "decisions only" in overall.detection.image_auroc.note


@pytest.mark.parametrize(("dataset", "accuracy", "recall"), [("mvtec_ac", 49.8, 22.8), ("visa_ac", 68.5, 25.8)])
def test_a_perfect_gate_with_the_commonest_type(row, dataset, accuracy, recall):
    predictions, sets = as_predictions(released(dataset), row)
    trivial = perfect_gate_majority_predictions(predictions, label_sets=sets)
    system = score_rows(trivial, label_sets=sets, num_bootstrap=10, seed=0).overall.system
    assert percents(system.velm_accuracy, system.end_to_end_balanced_recall) == (accuracy, recall)


@pytest.mark.parametrize(("dataset", "share"), [("mvtec_ac", 29.1), ("visa_ac", 37.6)])
def test_the_commonest_type_on_defects_alone(row, dataset, share):
    predictions, sets = as_predictions(released(dataset), row)
    rows = [one for one in majority_predictions(predictions, label_sets=sets) if one.gt_defect_type != "good"]
    accuracy = score_rows(rows, label_sets=sets, num_bootstrap=10, seed=0).overall.system.velm_accuracy
    assert percents(accuracy) == (share,)


def random_answers(seed: int) -> list[LabelledAnswer]:
    rng = np.random.default_rng(seed)
    labels = ["good", "cut", "bent"]
    return [
        LabelledAnswer(
            image_id=f"{i:03d}",
            category=("nut", "tile")[i % 2],
            gt_label=labels[rng.integers(3)],
            pred_label=[*labels, "nonsense"][rng.integers(4)],
        )
        for i in range(120)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_every_category_agrees_with_scikit_learn(seed):
    answers = random_answers(seed)
    scores = published_scores(answers, num_bootstrap=10, seed=0)
    for found in scores.categories:
        gt = [one.gt_label for one in answers if one.category == found.category]
        pred = [one.pred_label for one in answers if one.category == found.category]
        assert found.accuracy == pytest.approx(accuracy_score(gt, pred), abs=1e-12)
        assert found.macro_f1 == pytest.approx(f1_score(gt, pred, average="macro"), abs=1e-12)
        assert found.kappa == pytest.approx(cohen_kappa_score(gt, pred), abs=1e-12)
    assert scores.kappa.value == pytest.approx(np.mean([one.kappa for one in scores.categories]), abs=1e-12)


def test_a_resample_agrees_with_scikit_learns_sample_weights():
    answers = [one for one in random_answers(5) if one.category == "nut"]
    category = _category(answers, "nut")
    weights = stratified_weights(category.gt, num_bootstrap=3, seed=1)
    gt, pred = [one.gt_label for one in answers], [one.pred_label for one in answers]
    figures = zip(weights, macro_f1_values(category, weights), kappa_values(category, weights), strict=True)
    for drawn, f1, kappa in figures:
        assert f1 == pytest.approx(f1_score(gt, pred, average="macro", sample_weight=drawn), abs=1e-12)
        assert kappa == pytest.approx(cohen_kappa_score(gt, pred, sample_weight=drawn), abs=1e-12)


def test_balanced_recall_is_scikit_learns_on_the_defects(row):
    answers = [one for one in random_answers(2) if one.category == "nut" and one.gt_label != "good"]
    predictions, sets = as_predictions(answers, row)
    found = score_rows(predictions, label_sets=sets, num_bootstrap=10, seed=0).overall.system
    with pytest.warns(UserWarning, match="not in y_true"):
        expected = balanced_accuracy_score([one.gt_label for one in answers], [one.pred_label for one in answers])
    assert found.end_to_end_balanced_recall.value == pytest.approx(expected, abs=1e-12)


def test_figures_of_four_images_by_hand():
    said = [("good", "good"), ("good", "cut"), ("cut", "cut"), ("cut", "bnet")]
    answers = [
        LabelledAnswer(image_id=str(i), category="nut", gt_label=gt, pred_label=pred)
        for i, (gt, pred) in enumerate(said)
    ]
    scores = published_scores(answers, num_bootstrap=10, seed=0)
    assert scores.accuracy.value == 0.5
    assert scores.macro_f1.value == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert scores.kappa.value == pytest.approx((0.5 - (2 * 1 + 2 * 2) / 16) / (1 - 6 / 16))
    assert scores.foreign_labels == ("nut: bnet",)


def test_kappa_of_one_label_alone_is_missing_with_a_reason():
    answers = [LabelledAnswer(image_id=str(i), category="nut", gt_label="good", pred_label="good") for i in range(3)]
    scores = published_scores(answers, num_bootstrap=10, seed=0)
    assert scores.accuracy.value == 1.0
    assert scores.kappa.value is None
    assert "nut" in scores.kappa.note


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="at least one image"):
        published_scores([], num_bootstrap=10, seed=0)
