"""From a trained adapter to predictions: the tuned model and every row that stands beside it."""

from dataclasses import dataclass

from velm_train.cli.asking import Asker, asked_images, scorer_of
from velm_train.cli.build_data import label_sets
from velm_train.cli.build_engine import make_device
from velm_train.cli.calibrate_answers import ask_held_out, judge_answers
from velm_train.cli.control_rows import control_row, prior_row
from velm_train.cli.instruct import Material
from velm_train.cli.language_check import check_language
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.core.answer_scores import AnswerReport
from velm_train.core.hashing import sha256_json
from velm_train.core.language import LanguageRow
from velm_train.core.records import Prediction
from velm_train.core.scores import Scoreboard
from velm_train.metrics.scoreboard import System, make_scoreboard
from velm_train.metrics.system import (
    MAJORITY_ROW,
    PERFECT_GATE_ROW,
    majority_predictions,
    perfect_gate_majority_predictions,
)

RUN_ROW = "velm_train"


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """Scores of every row.

    Attributes:
        predictions: of the run itself, one row an image.
        answers: how far the answers of the run can be trusted.
        language: how they change with the words of the questions.
    """

    scoreboard: Scoreboard
    predictions: tuple[Prediction, ...]
    answers: AnswerReport
    language: tuple[LanguageRow, ...]


def examine(shop: Workshop, prepared: Prepared, looked: Looked, material: Material, taught: Taught) -> Examined | None:
    """Scores the tuned model and the rows beside it on the same images behind the same gate.

    Returns:
        None on all processes but the first, which have asked about their shares of the images and are done.
    """
    config = shop.config
    taught.model.to(make_device(config))
    inputs = {
        "split": prepared.manifest.sha256,
        "gates": sha256_json({name: gate.to_json() for name, gate in looked.gates.items()}),
        "material": material.identity,
        "policy": config.gate.policy,
    }
    asker = Asker(shop=shop, inputs=inputs)
    images = asked_images(looked, material, taught, renderer=taught.renderer)
    with shop.stage("ask the tuned model"), taught.model.merged_for_inference():
        scorer = scorer_of(shop, taught.model, renderer=taught.renderer, features=taught.features)
        own = asker.rows(RUN_ROW, images, scorer=scorer, model_hash=taught.adapter_key)
    held_out = ask_held_out(shop, prepared, looked, material, taught, asker=asker)
    systems = [System(name=RUN_ROW, predictions=own)]
    with shop.stage("ask the control rows"):
        for name in config.evaluation.baselines:
            if name == "prior_corrected":
                systems.append(prior_row(shop, asker, images, taught, own=own))
            else:
                systems += control_row(shop, name, asker, images, looked, material, taught)
    labels = label_sets(prepared.taxonomy, [image.record for image in looked.test])
    language = check_language(shop, prepared, looked, material, taught, asker=asker, own=own, label_sets=labels)
    if not shop.rank.is_first:
        return None
    systems += [
        System(
            name=PERFECT_GATE_ROW, predictions=perfect_gate_majority_predictions(own, label_sets=labels), trivial=True
        ),
        System(name=MAJORITY_ROW, predictions=majority_predictions(own, label_sets=labels), trivial=True),
    ]
    with shop.stage("score"):
        scoreboard = make_scoreboard(
            systems,
            label_sets=labels,
            num_bootstrap=config.evaluation.bootstrap,
            seed=config.seed,
            unknown_types=prepared.manifest.unknown_types,
        )
        answers = judge_answers(shop, prepared, calibration=held_out, test=own, scoreboard=scoreboard)
    return Examined(scoreboard=scoreboard, predictions=tuple(own), answers=answers, language=language)
