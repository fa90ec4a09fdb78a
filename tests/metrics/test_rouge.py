"""ROUGE-L is that of Google's rouge-score."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from velm_train.metrics.rouge import longest_common_subsequence, rouge_l

VOCABULARY = ["A", "scratch,", "on", "the", "rim", "rim.", "of", "40%", "left-hand", "\u00e4rm"]


@pytest.mark.parametrize("seed", range(20))
def test_random_sentences_score_as_in_rouge_score(seed):
    rng = np.random.default_rng(seed)
    said, reference = (" ".join(rng.choice(VOCABULARY, size=rng.integers(1, 25))) for _ in range(2))
    expected = RougeScorer(["rougeL"], use_stemmer=False).score(reference, said)["rougeL"].fmeasure
    assert rouge_l(said, reference) == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    assert longest_common_subsequence("abcbdab", "bdcaba") == 4
    assert rouge_l("the long scratch", "the scratch") == pytest.approx(2 * 2 / 5)
    assert rouge_l("The Scratch!", "the scratch") == 1.0


@pytest.mark.parametrize(("said", "reference"), [("", "a b"), ("a b", ""), ("...", "a")])
def test_a_text_without_words_is_like_nothing(said, reference):
    assert rouge_l(said, reference) == 0.0
