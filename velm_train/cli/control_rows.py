"""A finished run in; the rows that stand beside it out: what other evidence, other weights or none at all would say."""

from collections.abc import Sequence
from dataclasses import asdict

import torch

from velm_train.cli.asking import Asker, asked_images, scorer_of
from velm_train.cli.build_engine import make_device
from velm_train.cli.build_model import make_renderer, make_untuned
from velm_train.cli.classifier_rows import CLASSIFIER_ROWS, classifier_rows
from velm_train.cli.instruct import Material
from velm_train.cli.prepare import Looked
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.core.hashing import sha256_json
from velm_train.core.records import Prediction
from velm_train.evaluation.controls import blank_lookup, stratified_part
from velm_train.evaluation.free_text import Responder
from velm_train.evaluation.gated import GatedImage as AskedImage
from velm_train.evaluation.gated import without_pictures
from velm_train.evaluation.prior import blank_priors, prior_corrected
from velm_train.evaluation.runner import OptionScorer
from velm_train.metrics.scoreboard import System

ROW_NAMES = {
    "look_twice_off": "second look taken away",
    "untuned": "same MLLM before tuning",
    "image_blind": "image-blind (grey picture)",
    "linear_probe": "linear probe",
    "prototype": "nearest prototype",
    "detector_probe": "linear probe on the detector's backbone",
    "detector_prototype": "nearest prototype on the detector's backbone",
    "prior_corrected": "without the words' own likelihood",
    "free_text": "answers written, strictly read",
}
PART_NOTE = "types, misses and false alarms in the shares of all; compared with the run on these images"
"""What a row says that is scored on a stratified part of the images, to save time."""

SPARE_TOKENS = 8
"""What a written answer may be longer than the longest option."""


def control_row(
    shop: Workshop,
    name: str,
    asker: Asker,
    images: Sequence[AskedImage],
    looked: Looked,
    material: Material,
    taught: Taught,
) -> list[System]:
    """Returns the rows of one baseline; none where it makes no sense for this model."""
    title = ROW_NAMES[name]
    if name in CLASSIFIER_ROWS:
        rows = classifier_rows(shop, name, images, looked, material, own=taught.features, inputs=asker.inputs)
        return [System(name=title, predictions=rows)] if rows else []
    if name == "look_twice_off":
        if taught.model.look_twice is None:
            return []
        return [_without_second_look(shop, title, asker, looked, material, taught)]
    if name == "image_blind":
        return [System(name=title, predictions=_image_blind(shop, asker, images, taught))]
    if name == "free_text":
        return [_free_text(shop, title, asker, images, taught)]
    return [_untuned(shop, title, asker, looked, material, taught)]


def prior_row(
    shop: Workshop, asker: Asker, images: Sequence[AskedImage], taught: Taught, *, own: Sequence[Prediction]
) -> System:
    """Returns the run's own answers without the words' own likelihood, which a blank picture tells."""
    types = {
        image.category: {option.answer: option.defect_type for option in image.questions[0].prompt.sample.options}
        for image in images
        if image.questions
    }
    priors = blank_priors(_image_blind(shop, asker, images, taught))
    return System(name=ROW_NAMES["prior_corrected"], predictions=prior_corrected(own, priors, types=types))


def _image_blind(shop: Workshop, asker: Asker, images: Sequence[AskedImage], taught: Taught) -> list[Prediction]:
    scorer = scorer_of(shop, taught.model, renderer=taught.renderer, features=blank_lookup(taught.model))
    title, model_hash = ROW_NAMES["image_blind"], f"{taught.adapter_key}-blind"
    return asker.rows(title, without_pictures(images), scorer=scorer, model_hash=model_hash)


def _free_text(shop: Workshop, title: str, asker: Asker, images: Sequence[AskedImage], taught: Taught) -> System:
    """Lets the tuned model write its answers."""
    part = stratified_part(images, max_flagged=shop.config.evaluation.max_control_images, seed=shop.config.seed)
    scorer = scorer_of(shop, taught.model, renderer=taught.renderer, features=taught.features)
    tokenizer = taught.renderer.tokenizer
    longest = max((len(ids) for image in part for one in image.questions for ids in one.option_ids), default=1)
    responder = Responder(
        model=taught.model,
        collate=scorer.collate,
        decode=lambda token_ids: str(tokenizer.decode(list(token_ids), skip_special_tokens=True)),
        batch_size=scorer.batch_size,
        max_new_tokens=longest + SPARE_TOKENS,
        device=scorer.device,
    )
    return System(
        name=title,
        predictions=asker.written_rows(title, part, responder=responder, model_hash=f"{taught.adapter_key}-written"),
        subset_note=_part_note(part, images),
    )


def _untuned(shop: Workshop, title: str, asker: Asker, looked: Looked, material: Material, taught: Taught) -> System:
    """Asks the model as it is before tuning."""
    taught.model.to(torch.device("cpu"))  # so that two models need not fit in a GPU's memory
    fresh = make_untuned(shop.config, assets=shop.assets)
    renderer = make_renderer(fresh, assets=shop.assets)
    adapter = sha256_json(asdict(shop.config.look_twice))[:8]
    return _partial_row(
        shop,
        title,
        asker,
        asked_images(looked, material, taught, renderer=renderer),
        scorer=scorer_of(shop, fresh, renderer=renderer, features=taught.features),
        model_hash=f"{fresh.identity}-untuned-{adapter}-{shop.config.seed}",
    )


def _without_second_look(
    shop: Workshop, title: str, asker: Asker, looked: Looked, material: Material, taught: Taught
) -> System:
    """Asks the same weights with the second-look tokens taken out of the prompt."""
    taught.model.to(make_device(shop.config))
    with taught.model.first_look_only(), taught.model.merged_for_inference():
        renderer = make_renderer(taught.model, assets=shop.assets)
        return _partial_row(
            shop,
            title,
            asker,
            asked_images(looked, material, taught, renderer=renderer),
            scorer=scorer_of(shop, taught.model, renderer=renderer, features=taught.features),
            model_hash=f"{taught.adapter_key}-first-look",
        )


def _partial_row(
    shop: Workshop, title: str, asker: Asker, images: Sequence[AskedImage], *, scorer: OptionScorer, model_hash: str
) -> System:
    """Asks about no more images than a costly control row may have."""
    part = stratified_part(images, max_flagged=shop.config.evaluation.max_control_images, seed=shop.config.seed)
    rows = asker.rows(title, part, scorer=scorer, model_hash=model_hash)
    return System(name=title, predictions=rows, subset_note=_part_note(part, images))


def _part_note(part: Sequence[AskedImage], images: Sequence[AskedImage]) -> str:
    return "" if len(part) == len(images) else PART_NOTE
