"""From images that training never saw to calibrated answers: what they decide, and what the test says of it.

protocol.validation_per_type defects + flagged normals of protocol.calibration_fraction ──► the same gate, questions and
model as the test images ──► temperature, type sets, sorting, operating point ──► answers.json, figures on the test
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import cast

from velm_train.cli.asking import Asker, asked_images, scorer_of
from velm_train.cli.control_rows import ROW_NAMES
from velm_train.cli.instruct import Material, ask_about, encode
from velm_train.cli.prepare import Looked, Prepared, look_all
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.core.answer_scores import AnswerPolicy, AnswerReport, CostMatrix, ImageBlindCheck, SetMethod
from velm_train.core.artifacts import write_atomic
from velm_train.core.records import NORMAL_DEFECT_TYPE, Prediction
from velm_train.core.scores import Scoreboard
from velm_train.evaluation.answer_calibration import AnswerSettings, calibrate_answers, report_answers
from velm_train.instructions.options import closed_list
from velm_train.metrics.answer_table import AnswerVocabulary
from velm_train.metrics.collapse import image_blind_check
from velm_train.reporting.answers_words import answer_lines

ANSWERS_FILE = "answers.json"
"""What calibration decided, in the run folder; `core.answer_scores.AnswerPolicy.from_json` reads it."""

NOT_CALIBRATED = (
    "Answers are not calibrated: the protocol sets no defect aside for it; protocol.validation_per_type=2 takes two "
    "images of each type from the test"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Images that the answers are calibrated on, as if they were the test images.

    Attributes:
        looked: with the held-out images in the place of the test images, and none to train on.
        material: with the questions about them, and no training sample.
    """

    looked: Looked
    material: Material


def answer_settings(shop: Workshop) -> AnswerSettings:
    """Returns what the configuration asks of answers."""
    answers = shop.config.evaluation.answers
    return AnswerSettings(
        set_method=cast("SetMethod", answers.set_method),
        set_coverage=answers.set_coverage,
        max_error=answers.max_error,
        sorting_confidence=answers.sorting_confidence,
        costs=CostMatrix(
            missed_defect=answers.costs.missed_defect,
            false_alarm=answers.costs.false_alarm,
            wrong_type=answers.costs.wrong_type,
            human_look=answers.costs.human_look,
        ),
        defect_share=answers.defect_share,
    )


def hold_out(shop: Workshop, prepared: Prepared, looked: Looked, material: Material) -> HeldOut | None:
    """Looks at the images set aside and builds their questions; None if the protocol sets no defect aside.

    The normals that calibrated the gate are among them: the language model has not seen them, and those that the gate
    flags are false alarms. Training samples are no substitute, for the model is surer of them than of anything new.
    """
    if "validation" not in prepared.roles.values():
        return None
    with shop.stage("set answers aside"):
        images = look_all(shop, prepared, looked.detections, looked.gates, roles=("validation", "calibration"))
        apart = dataclasses.replace(looked, training=(), test=tuple(images))
        questions = ask_about(shop, prepared, apart)
    return HeldOut(looked=apart, material=dataclasses.replace(material, samples=(), questions=questions, dropped=()))


def ask_held_out(
    shop: Workshop, prepared: Prepared, looked: Looked, material: Material, taught: Taught, *, asker: Asker
) -> list[Prediction] | None:
    """Returns the tuned model's rows about the images set aside; None if there are none."""
    held_out = hold_out(shop, prepared, looked, material)
    if held_out is None:
        return None
    features = encode(shop, prepared, held_out.looked, held_out.material, model=taught.model)
    images = asked_images(
        held_out.looked, held_out.material, dataclasses.replace(taught, features=features), renderer=taught.renderer
    )
    with shop.stage("ask about images set aside"), taught.model.merged_for_inference():
        scorer = scorer_of(shop, taught.model, renderer=taught.renderer, features=features)
        return asker.rows("images set aside", images, scorer=scorer, model_hash=taught.adapter_key)


def judge_answers(
    shop: Workshop,
    prepared: Prepared,
    *,
    calibration: Sequence[Prediction] | None,
    test: Sequence[Prediction],
    scoreboard: Scoreboard,
) -> AnswerReport:
    """Calibrates the answers, keeps what was decided in the run folder, and scores it on the test rows.

    Args:
        shop: settings and run folder.
        prepared: images and taxonomies.
        calibration: rows of the images set aside; None if there are none.
        test: rows of the run itself.
        scoreboard: its first row is the run; an image-blind row is read if there is one.
    """
    settings = answer_settings(shop)
    taxonomy = prepared.taxonomy.categories
    vocabulary = AnswerVocabulary(
        label_sets={name: sorted(body.defect_types) for name, body in taxonomy.items()},
        answers={
            name: {option.defect_type: option.answer for option in closed_list(body) if option.defect_type}
            for name, body in prepared.taught.categories.items()
        },
        unknown_types=prepared.manifest.unknown_types,
    )
    policy: AnswerPolicy | None = None
    if calibration is not None:
        policy = calibrate_answers(
            calibration,
            settings=settings,
            vocabulary=vocabulary,
            parts={record.image_id: record.group_id for record in prepared.records},
            normal_flag_rate=_normal_flag_rate(shop),
        )
        if shop.run_folder is not None:
            write_atomic(shop.run_folder / ANSWERS_FILE, json.dumps(policy.to_json(), indent=1, allow_nan=False) + "\n")
    report = report_answers(
        policy,
        test,
        vocabulary=vocabulary,
        image_blind=_image_blind(scoreboard, test),
        note="" if policy else NOT_CALIBRATED,
        num_bootstrap=shop.config.evaluation.bootstrap,
        seed=shop.config.seed,
    )
    for line in answer_lines(report):
        shop.progress.note(line)
    return report


def _normal_flag_rate(shop: Workshop) -> float:
    """Returns the share of good parts that the gate flags."""
    return {"detector": shop.config.gate.alpha, "oracle": 0.0, "off": 1.0}[shop.config.gate.policy]


def _image_blind(scoreboard: Scoreboard, test: Sequence[Prediction]) -> ImageBlindCheck | None:
    row = next((row for row in scoreboard.rows if row.name == ROW_NAMES["image_blind"]), None)
    if row is None or row.versus_first is None:
        return None
    flagged = sum(image.pred_label and image.gt_defect_type != NORMAL_DEFECT_TYPE for image in test)
    return image_blind_check(row.versus_first, num_flagged_defects=flagged)
