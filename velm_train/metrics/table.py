"""A list of predictions goes in, checked columns that every metric reads come out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

from velm_train.core.errors import DataError
from velm_train.core.records import NONE_OF_THESE_OPTION, NORMAL_DEFECT_TYPE, Prediction

NORMAL_INDEX = -1
"""Stands for "good" in gt_type and pred_type."""

NONE_OF_THESE_INDEX = -2
"""Stands for an answer "none of these" in pred_type."""

UNPARSED_INDEX = -3
"""Stands for an answer that names nothing in pred_type."""


NO_UNKNOWN_TYPES: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeKey:
    """A defect type, which exists only inside its category: "scratch" of two categories are two types."""

    category: str
    defect_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionTable:
    """Columns over n images, sorted by image_id, so that the same images give the same resamples.

    Attributes:
        categories: names that `category` indexes.
        types: the fixed label list of all categories that occur, that gt_type and pred_type index.
        unknown: True for types that nobody was taught, to which "none of these" is the right answer.
        gt_type: true type, or NORMAL_INDEX.
        pred_type: answered type, NORMAL_INDEX, NONE_OF_THESE_INDEX or UNPARSED_INDEX.
        flagged: True if the gate let the image through to the language model.
        confidence: softmax probability of the likeliest option, 0..1; 0 where there are no options.
        has_confidence: True where option likelihoods are known.
    """

    image_ids: tuple[str, ...]
    categories: tuple[str, ...]
    types: tuple[TypeKey, ...]
    unknown: Bool[np.ndarray, " S"]
    category: Int[np.ndarray, " n"]
    group: tuple[str, ...]
    gt_type: Int[np.ndarray, " n"]
    pred_type: Int[np.ndarray, " n"]
    flagged: Bool[np.ndarray, " n"]
    anomaly_score: Float[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    has_confidence: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.image_ids)

    @property
    def defect(self) -> Bool[np.ndarray, " n"]:
        """True where the image shows a defect."""
        return np.asarray(self.gt_type != NORMAL_INDEX)

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """True where the system ends on the true type, "good" included, or on "none of these" for an unknown one."""
        # NORMAL_INDEX is -1, so "good" reads the appended False
        is_unknown = np.append(self.unknown, False)[self.gt_type]
        return np.asarray(np.where(is_unknown, self.pred_type == NONE_OF_THESE_INDEX, self.gt_type == self.pred_type))

    @property
    def strata(self) -> Int[np.ndarray, " n"]:
        """One number for each pair of category and true type, "good" included."""
        return np.asarray(self.category * (len(self.types) + 1) + self.gt_type + 1)

    def category_of_type(self) -> Int[np.ndarray, " S"]:
        """Returns the category index of each entry of `types`."""
        position = {name: index for index, name in enumerate(self.categories)}
        return np.array([position[key.category] for key in self.types], dtype=np.int64)

    def select(self, keep: Bool[np.ndarray, " n"]) -> "PredictionTable":
        """Returns the rows where `keep` is True; categories and types stay as they are."""
        chosen = np.flatnonzero(keep)
        return PredictionTable(
            image_ids=tuple(self.image_ids[i] for i in chosen),
            categories=self.categories,
            types=self.types,
            unknown=self.unknown,
            category=self.category[chosen],
            group=tuple(self.group[i] for i in chosen),
            gt_type=self.gt_type[chosen],
            pred_type=self.pred_type[chosen],
            flagged=self.flagged[chosen],
            anomaly_score=self.anomaly_score[chosen],
            confidence=self.confidence[chosen],
            has_confidence=self.has_confidence[chosen],
        )


def make_table(
    predictions: Sequence[Prediction],
    *,
    label_sets: Mapping[str, Sequence[str]],
    unknown_types: Mapping[str, Sequence[str]] = NO_UNKNOWN_TYPES,
) -> PredictionTable:
    """Checks predictions against the fixed label lists and turns them into columns.

    Args:
        predictions: one row an image, all labelled.
        label_sets: category -> its defect types, without "good".
        unknown_types: category -> those of its types that nobody was taught.

    Raises:
        DataError: if there are no rows, an image occurs twice, a row has no label, a category or type is not in
            `label_sets`, a label list holds "good" or lacks an unknown type, or a category is in two groups.
    """
    if not predictions:
        raise DataError("no predictions to score; the evaluation needs at least one image")
    rows = sorted(predictions, key=lambda row: row.image_id)
    _check_unique(rows)
    categories = tuple(sorted({row.category for row in rows}))
    if any(NORMAL_DEFECT_TYPE in labels for labels in label_sets.values()):
        raise DataError(f"label lists hold {NORMAL_DEFECT_TYPE!r}; they name defect types only, remove it")
    absent = [category for category in categories if category not in label_sets]
    if absent:
        raise DataError(f"categories {absent} have no label list; label lists are given for {sorted(label_sets)}")
    types = tuple(TypeKey(category=name, defect_type=label) for name in categories for label in label_sets[name])
    index = {key: position for position, key in enumerate(types)}
    unknown = {
        TypeKey(category=name, defect_type=label)
        for name in categories
        if name in unknown_types
        for label in unknown_types[name]
    }
    if not unknown <= set(types):
        raise DataError(f"unknown types {sorted(key.defect_type for key in unknown - set(types))} are on no label list")
    confidences = [_confidence(row) for row in rows]
    return PredictionTable(
        image_ids=tuple(row.image_id for row in rows),
        categories=categories,
        types=types,
        unknown=np.array([key in unknown for key in types], dtype=np.bool_),
        category=np.array([categories.index(row.category) for row in rows], dtype=np.int64),
        group=tuple(row.group for row in rows),
        gt_type=np.array([_gt_index(row, index) for row in rows], dtype=np.int64),
        pred_type=np.array([_pred_index(row, index) for row in rows], dtype=np.int64),
        flagged=np.array([row.pred_label for row in rows], dtype=np.bool_),
        anomaly_score=np.array([row.anomaly_score for row in rows], dtype=np.float64),
        confidence=np.array([0.0 if value is None else value for value in confidences], dtype=np.float64),
        has_confidence=np.array([value is not None for value in confidences], dtype=np.bool_),
    )


def _check_unique(rows: Sequence[Prediction]) -> None:
    repeated = [image_id for image_id, count in Counter(row.image_id for row in rows).items() if count > 1]
    if repeated:
        raise DataError(f"{len(repeated)} images have more than one prediction, for instance {repeated[0]!r}; keep one")
    groups: dict[str, str] = {}
    for row in rows:
        if groups.setdefault(row.category, row.group) != row.group:
            raise DataError(
                f"category {row.category!r} is in groups {groups[row.category]!r} and {row.group!r}; one is allowed"
            )


def _gt_index(row: Prediction, index: Mapping[TypeKey, int]) -> int:
    if row.gt_defect_type is None:
        raise DataError(f"{row.image_id} has no true defect type; only labelled images can be scored")
    if row.gt_defect_type == NORMAL_DEFECT_TYPE:
        return NORMAL_INDEX
    return _lookup(row, row.gt_defect_type, index, "true")


def _pred_index(row: Prediction, index: Mapping[TypeKey, int]) -> int:
    if row.pred_defect_type is None:
        said = _likeliest(row) or row.response
        return NONE_OF_THESE_INDEX if said == NONE_OF_THESE_OPTION else UNPARSED_INDEX
    if row.pred_defect_type == NORMAL_DEFECT_TYPE:
        return NORMAL_INDEX
    return _lookup(row, row.pred_defect_type, index, "predicted")


def _lookup(row: Prediction, defect_type: str, index: Mapping[TypeKey, int], whose: str) -> int:
    key = TypeKey(category=row.category, defect_type=defect_type)
    if key not in index:
        allowed = [known.defect_type for known in index if known.category == row.category]
        raise DataError(
            f"{row.image_id}: {whose} type {defect_type!r} is not in the label list of {row.category}: {allowed}"
        )
    return index[key]


def _likeliest(row: Prediction) -> str | None:
    scores = row.option_log_likelihoods
    return max(scores, key=lambda answer: scores[answer]) if scores else None


def _confidence(row: Prediction) -> float | None:
    """Returns the softmax probability of the likeliest option, or None without options.

    Raises:
        DataError: if a log-likelihood is not finite.
    """
    if not row.option_log_likelihoods:
        return None
    values = np.array(list(row.option_log_likelihoods.values()), dtype=np.float64)
    if not bool(np.isfinite(values).all()):
        raise DataError(f"{row.image_id}: option log-likelihoods {values.tolist()} are not all finite")
    return float(1.0 / np.exp(values - values.max()).sum())
