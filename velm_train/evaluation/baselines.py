"""Frozen features of the same crops go in; predictions of a linear probe and of nearest prototypes come out.

Both see what the language model's tower sees, behind the same gate, and learn from the same training samples, the
"no defect" ones from false alarms included. What the tuned model gains over them is what language brings.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from velm_train.collation.collate import ViewFeatures
from velm_train.core.errors import DataError
from velm_train.core.records import Prediction
from velm_train.core.seeding import derive_seed
from velm_train.evaluation.gated import GatedImage, named_row, stopped_row
from velm_train.evaluation.scoring import OptionScore, RegionScores, average_orders, region_naming_the_image

logger = logging.getLogger(__name__)

PooledFeatures = Float[np.ndarray, "n D"]
INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Values of C that cross-validation chooses from."""

DEFAULT_INVERSE_PENALTY = 1e-2
"""C where a type has too few images to cross-validate."""

MAX_FOLDS = 5
PROTOTYPE_TEMPERATURE = 0.1
"""Turns cosines into probabilities; it changes confidences, never the answer."""


def pool(view: ViewFeatures) -> Float[np.ndarray, " D"]:
    """Returns the mean of a view's tokens weighted by the anomaly map, then their plain mean, (2 Df,).

    Tokens of all tiles count, padding does not. Without a map both halves are the plain mean.
    """
    tokens = view.final[view.valid].float().numpy()
    weights = view.map_scores[view.valid].clamp_min(0).numpy()
    plain = tokens.mean(axis=0)
    weighted = weights @ tokens / weights.sum() if weights.sum() > 0 else plain
    return np.concatenate([weighted, plain])


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearProbe:
    """Logistic regression on standardised features.

    Attributes:
        classes: defect types it has seen in training; "good" for false alarms.
        estimator: the fitted pipeline; None if training has seen one class only, which is then always the answer.
        inverse_penalty: the C it was fitted with.
    """

    classes: tuple[str, ...]
    estimator: Pipeline | None
    inverse_penalty: float

    def log_probabilities(self, features: PooledFeatures) -> Float[np.ndarray, "n C"]:
        """Returns log-probabilities, finite."""
        if self.estimator is None:
            return np.zeros((len(features), 1))
        scores = np.asarray(self.estimator.decision_function(features), dtype=np.float64)
        if len(self.classes) == 2:
            return -np.logaddexp(0, np.stack([scores, -scores], axis=1))
        return _log_softmax(scores)


def fit_linear_probe(
    features: PooledFeatures, defect_types: Sequence[str], *, groups: Sequence[str], seed: int
) -> LinearProbe:
    """Fits the probe; C is chosen by balanced accuracy over folds of the training examples.

    Args:
        features: training examples.
        defect_types: of each example.
        groups: physical part of each example; examples of one part stay in one fold.
        seed: of the folds.

    Raises:
        DataError: if there are no examples.
    """
    classes = _classes_of(defect_types)
    if len(classes) == 1:
        return LinearProbe(classes=classes, estimator=None, inverse_penalty=DEFAULT_INVERSE_PENALTY)
    inverse_penalty = _choose_inverse_penalty(features, defect_types, groups=groups, seed=seed)
    estimator = _pipeline(inverse_penalty).fit(features, defect_types)
    logger.info("linear probe: %d examples, %d classes, C=%g", len(features), len(classes), inverse_penalty)
    return LinearProbe(classes=classes, estimator=estimator, inverse_penalty=inverse_penalty)


def _choose_inverse_penalty(
    features: PooledFeatures, defect_types: Sequence[str], *, groups: Sequence[str], seed: int
) -> float:
    parts_by_type: dict[str, set[str]] = {}
    for defect_type, group in zip(defect_types, groups, strict=True):
        parts_by_type.setdefault(defect_type, set()).add(group)
    num_folds = min(MAX_FOLDS, *(len(parts) for parts in parts_by_type.values()))
    if num_folds < 2:
        return DEFAULT_INVERSE_PENALTY
    folds = StratifiedGroupKFold(n_splits=num_folds, shuffle=True, random_state=derive_seed(seed, "probe") % 2**32)
    search = GridSearchCV(
        _pipeline(DEFAULT_INVERSE_PENALTY),
        {"logisticregression__C": list(INVERSE_PENALTIES)},
        scoring="balanced_accuracy",
        cv=folds,
        refit=False,
    )
    search.fit(features, np.array(defect_types), groups=np.array(groups))
    return float(search.best_params_["logisticregression__C"])


def _pipeline(inverse_penalty: float) -> Pipeline:
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=inverse_penalty, class_weight="balanced", max_iter=1000, tol=1e-3)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class NearestPrototype:
    """Cosine to the mean of each class.

    Attributes:
        classes: defect types it has seen in training; "good" for false alarms.
        prototypes: mean features of each class.
    """

    classes: tuple[str, ...]
    prototypes: Float[np.ndarray, "C D"]

    def log_probabilities(self, features: PooledFeatures) -> Float[np.ndarray, "n C"]:
        """Returns the log-softmax of cosines over PROTOTYPE_TEMPERATURE."""
        cosines = _unit(features.astype(np.float64)) @ _unit(self.prototypes.astype(np.float64)).T
        return _log_softmax(cosines / PROTOTYPE_TEMPERATURE)


def fit_prototypes(features: PooledFeatures, defect_types: Sequence[str]) -> NearestPrototype:
    """Takes the mean of each class.

    Raises:
        DataError: if there are no examples.
    """
    classes = _classes_of(defect_types)
    labels = np.array(defect_types)
    means = np.stack([features[labels == name].mean(axis=0) for name in classes])
    return NearestPrototype(classes=classes, prototypes=means)


FeatureClassifier = LinearProbe | NearestPrototype


def baseline_predictions(
    images: Sequence[GatedImage],
    *,
    features: Mapping[str, PooledFeatures],
    classifiers: Mapping[str, FeatureClassifier],
    hashes: Mapping[str, str],
) -> list[Prediction]:
    """Returns a row for every image, through the same gate and the same rule over regions as the model's rows.

    Only classes on the image's closed list take part; options the classifier has never seen get no likelihood.

    Args:
        images: gated images.
        features: image id -> pooled features of its regions' crops, in the order of `GatedImage.regions`.
        classifiers: category -> classifier.
        hashes: what makes the rows; copied into each.

    Raises:
        DataError: if a flagged image's category has no classifier, or none of its options was in training.
    """
    return [
        _name_image(image, features=features, classifiers=classifiers, hashes=hashes)
        if image.decision.pred_label
        else stopped_row(image, hashes=hashes)
        for image in images
    ]


def _name_image(
    image: GatedImage,
    *,
    features: Mapping[str, PooledFeatures],
    classifiers: Mapping[str, FeatureClassifier],
    hashes: Mapping[str, str],
) -> Prediction:
    if image.category not in classifiers:
        raise DataError(f"{image.image_id}: no baseline was trained for category {image.category!r}; leave the row out")
    classifier = classifiers[image.category]
    column = {name: position for position, name in enumerate(classifier.classes)}
    options = [option for option in image.questions[0].prompt.sample.options if option.defect_type in column]
    if not options:
        raise DataError(f"{image.image_id}: the baseline knows {list(column)}, none of them an option of this image")
    log_probabilities = classifier.log_probabilities(features[image.image_id])  # (R, C)
    asked = sorted({question.region_index for question in image.questions})
    regions = []
    for index in asked:
        values = [float(log_probabilities[index, column[str(option.defect_type)]]) for option in options]
        scores: tuple[OptionScore, ...] = average_orders([options], [values])
        regions.append(RegionScores(options=scores, peak_score=image.regions[index].peak_score))
    return named_row(image, region_naming_the_image(regions), seconds={}, hashes=hashes)


def _classes_of(defect_types: Sequence[str]) -> tuple[str, ...]:
    if not defect_types:
        raise DataError("a baseline got 0 training examples, 1 or more are needed; leave the row out")
    return tuple(sorted(set(defect_types)))


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
