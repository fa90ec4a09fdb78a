"""Predictions and the closed lists' wording go in; columns of option likelihoods and right options come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp

from velm_train.core.errors import DataError
from velm_train.core.records import NO_DEFECT_OPTION, NONE_OF_THESE_OPTION, NORMAL_DEFECT_TYPE, Prediction
from velm_train.metrics.table import NONE_OF_THESE_INDEX, UNPARSED_INDEX, PredictionTable, make_table

NO_GOLD = -1
"""Stands for a right option that was not offered."""

MAX_LOG_ODDS = 1e6
"""Stands for the log-odds of the only option of a list, nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerVocabulary:
    """What can be true and how it is worded.

    Attributes:
        label_sets: category -> fixed list of its defect types, without "good".
        answers: category -> defect type -> its option; types that nobody was taught have none.
        unknown_types: category -> types that nobody was taught; "none of these" is right for them.
    """

    label_sets: Mapping[str, Sequence[str]]
    answers: Mapping[str, Mapping[str, str]]
    unknown_types: Mapping[str, Sequence[str]]

    def gold_answer(self, row: Prediction) -> str:
        """Returns the right option of a row.

        Raises:
            DataError: if the row has no true type.
        """
        if row.gt_defect_type is None:
            raise DataError(f"{row.image_id} has no true defect type; only labelled images can be scored")
        if row.gt_defect_type == NORMAL_DEFECT_TYPE:
            return NO_DEFECT_OPTION
        known = self.answers[row.category] if row.category in self.answers else {}
        return known[row.gt_defect_type] if row.gt_defect_type in known else NONE_OF_THESE_OPTION


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTable:
    """The columns of `PredictionTable` with every option's likelihood.

    Attributes:
        base: the same images in the same order.
        log_likelihoods: nats, -inf behind a row's last option, all -inf on images that were not asked about.
        gold: column of the right option, or NO_GOLD.
        taught: True where the true type is "good" or one that the list names.
    """

    base: PredictionTable
    log_likelihoods: Float[np.ndarray, "n W"]
    gold: Int[np.ndarray, " n"]
    taught: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.base)

    @property
    def asked(self) -> Bool[np.ndarray, " n"]:
        """True where the gate let the image through and options have likelihoods."""
        return np.asarray(self.base.flagged & self.base.has_confidence)

    @property
    def named(self) -> Bool[np.ndarray, " n"]:
        """True where the answer names a type or "no defect", so that it can be acted on."""
        unnamed = (self.base.pred_type == NONE_OF_THESE_INDEX) | (self.base.pred_type == UNPARSED_INDEX)
        return np.asarray(self.asked & ~unnamed)

    @property
    def category_names(self) -> tuple[str, ...]:
        """Category of each image."""
        return tuple(self.base.categories[index] for index in self.base.category)

    def log_probabilities(self, *, temperature: float = 1.0) -> Float[np.ndarray, "n W"]:
        """Returns log-probabilities of the options, -inf where there is none."""
        result = np.full_like(self.log_likelihoods, -np.inf)
        asked = self.asked
        scaled = self.log_likelihoods[asked] / temperature
        if asked.any():
            result[asked] = scaled - logsumexp(scaled, axis=1, keepdims=True)
        return result

    def confidence(self, *, temperature: float = 1.0) -> Float[np.ndarray, " n"]:
        """Returns the probability of the likeliest option, 0 on images that were not asked about."""
        return np.asarray(np.exp(self.log_probabilities(temperature=temperature).max(axis=1)))

    def log_odds(self) -> Float[np.ndarray, " n"]:
        """Returns the log-odds of the likeliest option, -inf on images that were not asked about.

        They tell answers apart whose probability rounds to 1.
        """
        ranked = np.sort(self.log_likelihoods, axis=1)
        odds = np.full(len(self), -np.inf)
        asked = self.asked
        if asked.any():
            others = logsumexp(ranked[asked, :-1], axis=1) if ranked.shape[1] > 1 else -np.inf
            odds[asked] = np.minimum(ranked[asked, -1] - others, MAX_LOG_ODDS)
        return odds

    def select(self, keep: Bool[np.ndarray, " n"]) -> "AnswerTable":
        """Returns the rows where `keep` is True."""
        return AnswerTable(
            base=self.base.select(keep),
            log_likelihoods=self.log_likelihoods[keep],
            gold=self.gold[keep],
            taught=self.taught[keep],
        )


def make_answer_table(predictions: Sequence[Prediction], *, vocabulary: AnswerVocabulary) -> AnswerTable:
    """Checks predictions and turns them into columns.

    Raises:
        DataError: if the predictions do not fit the label lists; see `metrics.table.make_table`.
    """
    base = make_table(predictions, label_sets=vocabulary.label_sets, unknown_types=vocabulary.unknown_types)
    rows = sorted(predictions, key=lambda row: row.image_id)
    widest = max(1, *(len(row.option_log_likelihoods) for row in rows))
    values = np.full((len(rows), widest), -np.inf)
    gold = np.full(len(rows), NO_GOLD, dtype=np.int64)
    for i, row in enumerate(rows):
        options = list(row.option_log_likelihoods)
        values[i, : len(options)] = list(row.option_log_likelihoods.values())
        answer = vocabulary.gold_answer(row)
        if answer in options:
            gold[i] = options.index(answer)
    untaught = np.array([vocabulary.gold_answer(row) == NONE_OF_THESE_OPTION for row in rows], dtype=np.bool_)
    return AnswerTable(base=base, log_likelihoods=values, gold=gold, taught=~untaught)
