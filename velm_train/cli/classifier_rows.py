"""Training samples and test questions in; what plain classifiers on frozen features say about the same crops out."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np

from velm_train.cli.build_detector import make_backbone_views
from velm_train.cli.instruct import Material, map_sources
from velm_train.cli.prepare import Looked
from velm_train.cli.workshop import Workshop
from velm_train.collation.collate import ViewFeatures
from velm_train.core.records import InstructionSample, Prediction, View
from velm_train.evaluation.baselines import (
    LinearProbe,
    NearestPrototype,
    baseline_predictions,
    fit_linear_probe,
    fit_prototypes,
    pool,
)
from velm_train.evaluation.gated import GatedImage as AskedImage
from velm_train.pipeline.cache_choice import FeatureCache
from velm_train.pipeline.features import FeatureReader, build_features
from velm_train.pipeline.live_features import ViewEncoder

CLASSIFIER_ROWS = ("linear_probe", "prototype", "detector_probe", "detector_prototype")
"""The first two read the model's own frozen tower, the others the backbone of the detector."""


def classifier_rows(
    shop: Workshop,
    name: str,
    images: Sequence[AskedImage],
    looked: Looked,
    material: Material,
    *,
    own: Callable[[View], ViewFeatures],
    inputs: Mapping[str, str],
) -> list[Prediction]:
    """Fits one classifier over all training crops and names every flagged image with it.

    Args:
        shop: settings, store, progress.
        name: one of `CLASSIFIER_ROWS`.
        images: of the test, in the order of the rows.
        looked: whose maps weight the features.
        material: training samples and test questions.
        own: view -> what the model's tower says about it.
        inputs: what the rows depend on, by name, as hashes.

    Returns:
        One row an image; none if the detector has no backbone of its own, or on a process that reports nothing.
    """
    if not shop.rank.is_first:  # they take no time worth sharing
        return []
    features: Callable[[View], ViewFeatures] = own
    if name.startswith("detector_"):
        found = _of_detector(shop, looked, material)
        if found is None:
            return []
        features = found
    crops = _training_crops(material)
    pooled = np.stack([pool(features(view)) for view, _ in crops.values()])
    types = [answer for _, answer in crops.values()]
    classifier: LinearProbe | NearestPrototype
    if name.endswith("probe"):
        groups = [image_id for image_id, _ in crops]
        classifier = fit_linear_probe(pooled, types, groups=groups, seed=shop.config.seed)
    else:
        classifier = fit_prototypes(pooled, types)
    test = {
        image_id: np.stack([pool(features(_crop_of(orders[0]))) for orders in regions])
        for image_id, regions in material.questions.items()
    }
    return baseline_predictions(
        images,
        features=test,
        classifiers=dict.fromkeys({image.category for image in images}, classifier),
        hashes={**inputs, "model": name},
    )


def _training_crops(material: Material) -> dict[tuple[str, tuple[int, ...]], tuple[View, str]]:
    """Returns every crop that is taught once, with the type it is taught as."""
    return {
        (view.image_id, view.box_xyxy): (view, sample.provenance["answer_defect_type"])
        for sample in material.samples
        for view in sample.views
        if view.kind == "crop"
    }


def _of_detector(shop: Workshop, looked: Looked, material: Material) -> FeatureReader | None:
    """Runs the detector's backbone over the crops, once."""
    backbone = make_backbone_views(shop.config, assets=shop.assets)
    if backbone is None:
        return None
    asked_about = [_crop_of(orders[0]) for regions in material.questions.values() for orders in regions]
    return build_features(
        store=shop.store,
        views={
            "crops, training": [view for view, _ in _training_crops(material).values()],
            "crops, test": asked_about,
        },
        encoder=ViewEncoder(
            tower=backbone,
            map_sources=map_sources(looked, records={}),
            contour_width_px=shop.config.regions.contour_width_px,
            batch_size=shop.config.detector.batch_size,
        ),
        cache=cast("FeatureCache", shop.config.trainer.feature_cache),
        progress=shop.progress,
    )


def _crop_of(question: InstructionSample) -> View:
    """Returns the view a classifier looks at: the crop, or the last view where the question shows none."""
    crops = [view for view in question.views if view.kind == "crop"]
    return crops[0] if crops else question.views[-1]
