"""VisA-D&R: per-class figures against scikit-learn, the two ways to read an answer, likeness by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from velm_train.core.benchmarks import WrittenAnswer, YesNoAnswer
from velm_train.core.errors import DataError
from velm_train.metrics.visa_dr import (
    says_yes_anywhere,
    says_yes_first,
    visa_dr_detection_scores,
    visa_dr_reasoning_scores,
)

CLASSES = ("candle", "cashew", "pcb1")


def yes_no(seed: int, num_images: int = 90) -> list[YesNoAnswer]:
    rng = np.random.default_rng(seed)
    return [
        YesNoAnswer(
            image=f"{i}.JPG",
            category=CLASSES[i % 3],
            gt_label=bool(rng.random() < 0.6),
            said=("Yes", "No", "yes, there is", "No.")[rng.integers(4)],
        )
        for i in range(num_images)
    ]


def written(category: str, number: int, reference: str, said: str, *, published: bool = True) -> WrittenAnswer:
    return WrittenAnswer(
        image=f"{category}.JPG", category=category, number=number, reference=reference, said=said, published=published
    )


@pytest.mark.parametrize(
    ("said", "anywhere", "first"),
    [
        ("Yes", True, True),
        ("No", False, False),
        ("yes.", True, True),
        (" **Yes**, a crack", True, True),
        ("YES", False, True),
        ("No, yesterday's picture was worse", True, False),
        ("I would say yes", True, None),
        ("Nothing is wrong", False, None),
        ("", False, None),
    ],
)
def test_two_ways_to_read_an_answer(said, anywhere, first):
    assert says_yes_anywhere(said) is anywhere
    assert says_yes_first(said) is first


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_means_of_scikit_learns_over_classes(seed):
    answers = yes_no(seed)
    scores = visa_dr_detection_scores(answers, num_bootstrap=50, seed=0)
    kinds = {"accuracy": accuracy_score, "precision": precision_score, "recall": recall_score, "f1": f1_score}
    truth = np.array([one.gt_label for one in answers])
    said = np.array([says_yes_anywhere(one.said) for one in answers])
    classes = np.array([one.category for one in answers])
    for name, function in kinds.items():
        own = [function(truth[classes == c], said[classes == c]) for c in CLASSES]
        assert getattr(scores.published, name).value == pytest.approx(np.mean(own), abs=1e-12)
        assert getattr(scores.strict_pooled, name).value == pytest.approx(function(truth, said), abs=1e-12)
        assert getattr(scores.strict, name).value == pytest.approx(np.mean(own), abs=1e-12)
    assert (scores.num_images, scores.num_categories, scores.num_unparsed) == (90, 3, 0)
    assert scores.published.f1.low < scores.published.f1.value < scores.published.f1.high


def test_what_is_neither_yes_nor_no_is_wrong_both_ways():
    answers = [
        YesNoAnswer(image="a", category="candle", gt_label=True, said="Perhaps yes"),
        YesNoAnswer(image="b", category="candle", gt_label=False, said="Perhaps"),
    ]
    scores = visa_dr_detection_scores(answers, num_bootstrap=10, seed=0)
    assert scores.published.accuracy.value == 1.0
    assert scores.strict.accuracy.value == scores.strict.recall.value == scores.strict.precision.value == 0.0
    assert scores.num_unparsed == 2


def test_always_yes_has_the_share_of_anomalies_as_accuracy():
    answers = [YesNoAnswer(image=str(i), category="candle", gt_label=i < 57, said="No") for i in range(100)]
    trivial = visa_dr_detection_scores(answers, num_bootstrap=10, seed=0).always_yes
    assert (trivial.accuracy.value, trivial.recall.value) == (0.57, 1.0)
    assert trivial.f1.value == pytest.approx(2 * 57 / 157)


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="at least one image"):
        visa_dr_detection_scores([], num_bootstrap=10, seed=0)
    with pytest.raises(DataError, match="at least one question"):
        visa_dr_reasoning_scores([], encode=None, sentence_model="", num_bootstrap=10, seed=0)


ANSWERS = [
    written("candle", 1, "a red spot", "a red spot"),  # 1
    written("candle", 1, "a red spot", "nothing"),  # 0
    written("cashew", 1, "a hole", "a hole"),  # 1
    written("pcb2", 1, "a bent pin", "", published=False),  # 0
    written("candle", 2, "the mould leaks", "the mould leaks badly"),  # 6 / 7
]


def test_likeness_by_class_and_pooled():
    scores = visa_dr_reasoning_scores(ANSWERS, encode=None, sentence_model="", num_bootstrap=10, seed=0)
    assert scores.low_level.rouge_l.value == pytest.approx((0.5 + 1) / 2)
    assert scores.low_level.rouge_l_pooled.value == pytest.approx(2 / 3)
    assert scores.low_level_all.rouge_l.value == pytest.approx((0.5 + 1 + 0) / 3)
    assert scores.low_level_all.rouge_l_pooled.value == pytest.approx(2 / 4)
    assert scores.complex.rouge_l.value == pytest.approx(6 / 7)
    assert (scores.num_answers, scores.num_empty) == (5, 1)
    assert scores.low_level.similarity.value is None
    assert "no sentence model" in scores.low_level.similarity.note


def test_similarity_is_the_cosine_and_zero_for_an_empty_answer():
    def encode(texts):
        return np.array([[2.0 * len(text), 1.0] for text in texts])

    scores = visa_dr_reasoning_scores(ANSWERS, encode=encode, sentence_model="lengths", num_bootstrap=10, seed=0)
    unlike = (14 * 20 + 1) / np.sqrt((14**2 + 1) * (20**2 + 1))
    assert scores.low_level.similarity_pooled.value == pytest.approx((1 + unlike + 1) / 3)
    assert scores.low_level_all.similarity_pooled.value == pytest.approx((1 + unlike + 1 + 0) / 4)
    assert scores.sentence_model == "lengths"
