"""A finished run in; how much its answers rest on the names of the types out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from velm_train.cli.asking import Asker, asked_images, scorer_of
from velm_train.cli.instruct import Material, ask_about
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.core.language import LanguageRow
from velm_train.core.records import NORMAL_DEFECT_TYPE, Prediction
from velm_train.core.taxonomy import Taxonomy
from velm_train.evaluation.controls import stratified_part
from velm_train.evaluation.gated import GatedImage as AskedImage
from velm_train.instructions.language_check import LANGUAGE_CHECKS, LanguageCheck, reworded
from velm_train.metrics.language_check import language_row

SAME_WORDS: tuple[LanguageCheck, ...] = ("permuted", "no_noun")
"""Checks in which an answer can stay the same word."""


def check_language(
    shop: Workshop,
    prepared: Prepared,
    looked: Looked,
    material: Material,
    taught: Taught,
    *,
    asker: Asker,
    own: Sequence[Prediction],
    label_sets: Mapping[str, Sequence[str]],
) -> tuple[LanguageRow, ...]:
    """Asks about some of the flagged defects once more in other words, and compares.

    Args:
        shop: settings, store, progress.
        prepared: whose taxonomy is reworded.
        looked: the test images.
        material: how they were asked before.
        taught: the tuned model.
        asker: keeps the rows.
        own: predictions in the words as taught.
        label_sets: category -> its defect types, without "good".
    """
    chosen = [check for check in LANGUAGE_CHECKS if check in shop.config.evaluation.language_checks]
    if not chosen:
        return ()
    with shop.stage("check the language"), taught.model.merged_for_inference():
        own_words = asked_images(looked, material, taught, renderer=taught.renderer)
        limit = shop.config.evaluation.max_language_images
        few = stratified_part(_flagged_defects(own_words), max_flagged=limit, seed=shop.config.seed)
        answers = {
            check: _other_words(shop, prepared, looked, material, taught, asker=asker, check=check, own=own, images=few)
            for check in chosen
        }
        if not shop.rank.is_first:
            return ()
        return tuple(
            language_row(
                check,
                own,
                answers[check],
                label_sets=label_sets,
                unknown_types=prepared.manifest.unknown_types,
                compares_words=check in SAME_WORDS,
                num_bootstrap=shop.config.evaluation.bootstrap,
                seed=shop.config.seed,
            )
            for check in chosen
        )


def _flagged_defects(images: Sequence[AskedImage]) -> list[AskedImage]:
    """Returns the images that the check is about; nothing is asked about others."""
    return [image for image in images if image.decision.pred_label and image.gt_defect_type != NORMAL_DEFECT_TYPE]


def _other_words(
    shop: Workshop,
    prepared: Prepared,
    looked: Looked,
    material: Material,
    taught: Taught,
    *,
    asker: Asker,
    check: LanguageCheck,
    own: Sequence[Prediction],
    images: Sequence[AskedImage],
) -> list[Prediction]:
    """Returns the answers in other words; where the words do not occur in any question, those that are there."""
    taxonomy = reworded(prepared.taught, check, seed=shop.config.seed)
    changed = [image for image in images if image.category in taxonomy.categories]
    asked = _asked_in(taxonomy, shop, prepared, looked, material, taught, images=changed)
    before = {image.image_id: [question.key for question in image.questions] for image in changed}
    if all([question.key for question in image.questions] == before[image.image_id] for image in asked):
        return [row for row in own if row.image_id in before]
    scorer = scorer_of(shop, taught.model, renderer=taught.renderer, features=taught.features)
    return asker.rows(f"language: {check}", asked, scorer=scorer, model_hash=taught.adapter_key)


def _asked_in(
    taxonomy: Taxonomy,
    shop: Workshop,
    prepared: Prepared,
    looked: Looked,
    material: Material,
    taught: Taught,
    *,
    images: Sequence[AskedImage],
) -> list[AskedImage]:
    """Returns the images with questions in the taxonomy's words; their pictures are those encoded before."""
    ids = {image.image_id for image in images}
    part = replace(looked, test=tuple(image for image in looked.test if image.record.image_id in ids))
    questions = ask_about(shop, replace(prepared, taught=taxonomy), part)
    return asked_images(part, replace(material, questions=questions), taught, renderer=taught.renderer)
