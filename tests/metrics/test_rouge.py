"""ROUGE-L is that of Google's rouge-score."""

import json
import subprocess
import sys

import numpy as np
import pytest

from velm_train.metrics.rouge import longest_common_subsequence, rouge_l

VOCABULARY = ["A", "scratch,", "on", "the", "rim", "rim.", "of", "40%", "left-hand", "\u00e4rm"]


REFERENCE = """
import json, sys
from rouge_score.rouge_scorer import RougeScorer
scorer = RougeScorer(["rougeL"], use_stemmer=False)
print(json.dumps([scorer.score(reference, said)["rougeL"].fmeasure for said, reference in json.load(sys.stdin)]))
"""
"""In a process of its own: rouge-score brings absl, whose logging does not go with that of Hydra."""


def test_random_sentences_score_as_in_rouge_score():
    rng = np.random.default_rng(0)
    pairs = [[" ".join(rng.choice(VOCABULARY, size=rng.integers(1, 25))) for _ in range(2)] for _ in range(20)]
    answer = subprocess.run(
        [sys.executable, "-c", REFERENCE], input=json.dumps(pairs), capture_output=True, text=True, check=True
    )
    expected = json.loads(answer.stdout)
    assert [rouge_l(said, reference) for said, reference in pairs] == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    assert longest_common_subsequence("abcbdab", "bdcaba") == 4
    assert rouge_l("the long scratch", "the scratch") == pytest.approx(2 * 2 / 5)
    assert rouge_l("The Scratch!", "the scratch") == 1.0


@pytest.mark.parametrize(("said", "reference"), [("", "a b"), ("a b", ""), ("...", "a")])
def test_a_text_without_words_is_like_nothing(said, reference):
    assert rouge_l(said, reference) == 0.0
