"""Answers to VisA-D&R go in; detection and likeness figures, as means over classes and pooled, come out.

Detection, arXiv 2502.07601 section 5: accuracy, precision, recall and F1 of each class, then the mean over classes, so
that F1 is not the harmonic mean of the precision and recall beside it. Figures of a class without a positive answer, or
without an anomaly, are 0 where their denominator is. No scorer for the texts was published: ROUGE-L and the cosine of
sentence embeddings here are what the paper names, with a model of one's own choice.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from velm_train.core.benchmarks import (
    VisaDrDetectionScores,
    VisaDrReasoningScores,
    WordsScores,
    WrittenAnswer,
    YesNoAnswer,
    YesNoScores,
)
from velm_train.core.errors import DataError
from velm_train.core.scores import Score
from velm_train.metrics.intervals import Values, Weights, bootstrap_score, stratified_weights
from velm_train.metrics.rouge import rouge_l

Encode = Callable[[Sequence[str]], Float[np.ndarray, "n d"]]
"""Texts in, one embedding each out."""

_FIRST_WORD = re.compile(r"\W*([a-z]+)", re.IGNORECASE)


def says_yes_anywhere(said: str) -> bool:
    """Returns what the published script reads: yes if "Yes" or "yes" stands anywhere, even inside another word."""
    return "Yes" in said or "yes" in said


def says_yes_first(said: str) -> bool | None:
    """Returns whether the first word is yes or no, or None if it is neither."""
    found = _FIRST_WORD.match(said)
    word = "" if found is None else found.group(1).lower()
    return {"yes": True, "no": False}[word] if word in ("yes", "no") else None


def visa_dr_detection_scores(answers: Sequence[YesNoAnswer], *, num_bootstrap: int, seed: int) -> VisaDrDetectionScores:
    """Scores yes and no.

    Args:
        answers: one an image.
        num_bootstrap: resamples for each interval, within class and truth.
        seed: root seed.

    Raises:
        DataError: if there is no answer.
    """
    if not answers:
        raise DataError("there is no answer to score; at least one image is needed")
    names = sorted({answer.category for answer in answers})
    category = np.array([names.index(answer.category) for answer in answers], dtype=np.int64)
    truth = np.array([answer.gt_label for answer in answers], dtype=np.bool_)
    strict = [says_yes_first(answer.said) for answer in answers]
    as_wrong = [not gt if said is None else said for said, gt in zip(strict, truth.tolist(), strict=True)]
    weights = stratified_weights(2 * category + truth, num_bootstrap=num_bootstrap, seed=seed)

    def scores(said: Sequence[bool], groups: Int[np.ndarray, " n"]) -> YesNoScores:
        return yes_no_scores(truth, np.array(said, dtype=np.bool_), groups, weights)

    return VisaDrDetectionScores(
        num_images=len(answers),
        num_categories=len(names),
        published=scores([says_yes_anywhere(answer.said) for answer in answers], category),
        strict=scores(as_wrong, category),
        strict_pooled=scores(as_wrong, np.zeros_like(category)),
        always_yes=scores([True] * len(answers), category),
        num_unparsed=strict.count(None),
    )


def yes_no_scores(
    truth: Bool[np.ndarray, " n"], said: Bool[np.ndarray, " n"], groups: Int[np.ndarray, " n"], weights: Weights
) -> YesNoScores:
    """Returns means over groups of four figures.

    Args:
        truth: True for an anomaly.
        said: True for yes.
        groups: number of the class of each image; one number for all pools them.
        weights: resamples of the same images.
    """

    def mean(figure: str) -> Score:
        def metric(drawn: Weights) -> Values:
            own = [groups == group for group in np.unique(groups)]
            return np.asarray(np.mean([_figures(truth[m], said[m], drawn[:, m])[figure] for m in own], axis=0))

        return bootstrap_score(metric, weights, n=len(truth))

    return YesNoScores(accuracy=mean("accuracy"), precision=mean("precision"), recall=mean("recall"), f1=mean("f1"))


def visa_dr_reasoning_scores(
    answers: Sequence[WrittenAnswer],
    *,
    encode: Encode | None,
    sentence_model: str,
    num_bootstrap: int,
    seed: int,
) -> VisaDrReasoningScores:
    """Scores answers in words.

    Args:
        answers: one a question.
        encode: the sentence model, or None to leave embeddings out.
        sentence_model: its name; "" without one.
        num_bootstrap: resamples of answers for each interval, within class.
        seed: root seed.

    Raises:
        DataError: if there is no answer.
    """
    if not answers:
        raise DataError("there is no answer to score; at least one question is needed")
    likeness = np.array([rouge_l(answer.said, answer.reference) for answer in answers], dtype=np.float64)
    cosines = None if encode is None else _cosines(answers, encode)

    def scores(*, low_level: bool, published: bool) -> WordsScores:
        chosen = np.array(
            [(answer.number == 1) == low_level and (answer.published or not published) for answer in answers],
            dtype=np.bool_,
        )
        names = [answer.category for answer, kept in zip(answers, chosen.tolist(), strict=True) if kept]
        return _words_scores(
            names,
            likeness[chosen],
            None if cosines is None else cosines[chosen],
            num_bootstrap=num_bootstrap,
            seed=seed,
        )

    return VisaDrReasoningScores(
        low_level=scores(low_level=True, published=True),
        complex=scores(low_level=False, published=True),
        low_level_all=scores(low_level=True, published=False),
        complex_all=scores(low_level=False, published=False),
        num_answers=len(answers),
        num_empty=sum(not answer.said.strip() for answer in answers),
        sentence_model=sentence_model,
    )


def _figures(truth: Bool[np.ndarray, " m"], said: Bool[np.ndarray, " m"], drawn: Weights) -> Mapping[str, Values]:
    hit, positive, yes = drawn @ (truth & said), drawn @ truth, drawn @ said
    return {
        "accuracy": drawn @ (truth == said) / drawn.sum(axis=1),
        "precision": hit / np.where(yes > 0, yes, 1),
        "recall": hit / np.where(positive > 0, positive, 1),
        "f1": 2 * hit / np.where(positive + yes > 0, positive + yes, 1),
    }


def _cosines(answers: Sequence[WrittenAnswer], encode: Encode) -> Float[np.ndarray, " n"]:
    """Returns the cosine of each answer and its reference; 0 for an empty answer, which means nothing."""
    said = encode([answer.said for answer in answers])
    wanted = encode([answer.reference for answer in answers])
    lengths = np.linalg.norm(said, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (said * wanted).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    empty = np.array([not answer.said.strip() for answer in answers], dtype=np.bool_)
    return np.where(empty, 0.0, cosines).astype(np.float64)


def _words_scores(
    names: Sequence[str],
    likeness: Float[np.ndarray, " n"],
    cosines: Float[np.ndarray, " n"] | None,
    *,
    num_bootstrap: int,
    seed: int,
) -> WordsScores:
    if not names:
        missing = Score.undefined("no such question")
        return WordsScores(rouge_l=missing, rouge_l_pooled=missing, similarity=missing, similarity_pooled=missing)
    classes = sorted(set(names))
    category = np.array([classes.index(name) for name in names], dtype=np.int64)
    weights = stratified_weights(category, num_bootstrap=num_bootstrap, seed=seed)

    def over(values: Float[np.ndarray, " n"] | None, groups: Int[np.ndarray, " n"]) -> Score:
        if values is None:
            return Score.undefined("no sentence model was named", n=len(names))

        def metric(drawn: Weights) -> Values:
            own = [groups == group for group in np.unique(groups)]
            return np.asarray(np.mean([drawn[:, m] @ values[m] / drawn[:, m].sum(axis=1) for m in own], axis=0))

        return bootstrap_score(metric, weights, n=len(names))

    pooled = np.zeros_like(category)
    return WordsScores(
        rouge_l=over(likeness, category),
        rouge_l_pooled=over(likeness, pooled),
        similarity=over(cosines, category),
        similarity_pooled=over(cosines, pooled),
    )
