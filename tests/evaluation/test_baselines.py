"""The probe equals sklearn used directly; prototypes equal a written-out cosine; rows follow the gate."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import DataError
from velm_train.evaluation.baselines import (
    DEFAULT_INVERSE_PENALTY,
    INVERSE_PENALTIES,
    baseline_predictions,
    fit_linear_probe,
    fit_prototypes,
    pool,
)


def examples(classes=("crack", "good", "hole"), per_class=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = [name for name in classes for _ in range(per_class)]
    features = rng.normal(size=(len(labels), 5)).astype(np.float32)
    features[:, 0] += np.array([classes.index(name) for name in labels]) * 1.5
    return features, labels, [f"part{i // 2}" for i in range(len(labels))]


@pytest.mark.parametrize("classes", [("crack", "good", "hole"), ("crack", "good")])
def test_probe_equals_sklearn_directly(classes):
    features, labels, groups = examples(classes)
    probe = fit_linear_probe(features, labels, groups=groups, seed=0)
    assert probe.inverse_penalty in INVERSE_PENALTIES
    scaler = StandardScaler().fit(features)
    direct = LogisticRegression(C=probe.inverse_penalty, class_weight="balanced", max_iter=1000, tol=1e-3)
    direct.fit(scaler.transform(features), labels)
    expected = direct.predict_log_proba(scaler.transform(features))
    assert probe.classes == tuple(direct.classes_)
    np.testing.assert_allclose(probe.log_probabilities(features), expected, atol=1e-5)


def test_probe_choice_depends_on_the_seed_alone():
    features, labels, groups = examples()
    first, second = (fit_linear_probe(features, labels, groups=groups, seed=0) for _ in range(2))
    assert first.inverse_penalty == second.inverse_penalty
    np.testing.assert_array_equal(first.log_probabilities(features), second.log_probabilities(features))


def test_probe_of_one_part_a_type_skips_cross_validation():
    features, labels, _ = examples()
    probe = fit_linear_probe(features, labels, groups=labels, seed=0)
    assert probe.inverse_penalty == DEFAULT_INVERSE_PENALTY


def test_probe_of_one_class_always_answers_it():
    features, _, groups = examples()
    probe = fit_linear_probe(features, ["crack"] * 36, groups=groups, seed=0)
    assert probe.classes == ("crack",)
    assert not probe.log_probabilities(features[:3]).any()


def test_prototypes_equal_the_written_out_cosine():
    features, labels, _ = examples()
    made = fit_prototypes(features, labels)
    query = features[7].astype(np.float64)
    cosines = []
    for name in ("crack", "good", "hole"):
        mean = np.mean(
            [row for row, label in zip(features.astype(np.float64), labels, strict=True) if label == name], 0
        )
        cosines.append(query @ mean / np.linalg.norm(query) / np.linalg.norm(mean))
    weights = np.exp(np.array(cosines) / 0.1)
    np.testing.assert_allclose(made.log_probabilities(features[7:8])[0], np.log(weights / weights.sum()), atol=1e-4)


def test_pooling_weighs_tokens_by_the_map_and_ignores_padding(one_tile):
    final, levels = np.array([[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]], np.float32), np.zeros((1, 3, 2), np.float32)
    view = one_tile(final, levels, np.array([1.0, 3.0, 9.0], np.float32), grid_hw=(1, 2))
    np.testing.assert_allclose(pool(view), [2.5, 5.0, 2.0, 4.0])
    no_map = one_tile(final, levels, np.zeros(3, np.float32), grid_hw=(1, 2))
    np.testing.assert_allclose(pool(no_map), [2.0, 4.0, 2.0, 4.0])


def test_pooling_takes_the_tokens_of_all_tiles(tiles):
    """Three tiles of 1 x 2, 1 x 2 and 1 x 1 tokens hold 1 to 5; the map is 1 on the last, 0 elsewhere."""
    np.testing.assert_allclose(pool(tiles), [5.0, 3.0])


@pytest.fixture
def tiles():
    return VisionEvidence(
        final=torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 99.0]])[..., None],
        levels=torch.zeros(1, 3, 2, 1),
        grid_hw=torch.tensor([[1, 2], [1, 2], [1, 1]]),
        view_index=torch.zeros(3, dtype=torch.long),
        is_global=torch.tensor([False, False, True]),
        valid=torch.tensor([[True, True], [True, True], [True, False]]),
        map_scores=torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 7.0]]),
    )


def test_rows_follow_gate_regions_and_closed_list(image, question):
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(9, 2)) + 6 * np.eye(2)[i % 2] for i in range(2)]).astype(np.float32)
    classifier = fit_prototypes(features, ["good"] * 9 + ["crack"] * 9)
    asked = [question("t/0", types=("hole", "good", "crack"), region_index=i) for i in range(2)]
    images = [image("t/0", questions=asked, peaks=(3.0, 1.0)), image("t/1", flagged=False)]
    regions = np.array([[6.0, 0.0], [0.0, 6.0]], np.float32)  # a false alarm and a crack
    named, stopped = baseline_predictions(
        images, features={"t/0": regions}, classifiers={"tile": classifier}, hashes={"row": "prototype"}
    )
    assert named.pred_defect_type == "crack"
    assert set(named.option_log_likelihoods) == {"fine crack", "no defect"}
    assert stopped.pred_defect_type == "good"
    assert stopped.option_log_likelihoods == {}
    with pytest.raises(DataError, match="no baseline was trained for category 'tile'"):
        baseline_predictions(images, features={}, classifiers={}, hashes={})


def test_no_examples_are_refused():
    with pytest.raises(DataError, match="0 training examples"):
        fit_prototypes(np.zeros((0, 2), np.float32), [])
