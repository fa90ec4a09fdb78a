"""What the configuration asks of answers arrives where it is used."""

from velm_train.cli.calibrate_answers import answer_settings
from velm_train.cli.compose import load_config
from velm_train.cli.workshop import open_workshop
from velm_train.core.answer_scores import CostMatrix
from velm_train.evaluation.answer_calibration import AnswerSettings


def test_every_setting_of_answers_arrives(tmp_path):
    words = [
        f"paths.artifacts={tmp_path}",
        "evaluation.answers.set_method=raps",
        "evaluation.answers.set_coverage=0.8",
        "evaluation.answers.max_error=0.05",
        "evaluation.answers.sorting_confidence=0.95",
        "evaluation.answers.defect_share=0.01",
        "evaluation.answers.costs.missed_defect=7",
        "evaluation.answers.costs.false_alarm=6",
        "evaluation.answers.costs.wrong_type=5",
        "evaluation.answers.costs.human_look=4",
    ]
    shop = open_workshop(load_config(words), run_folder=None)
    assert answer_settings(shop) == AnswerSettings(
        set_method="raps",
        set_coverage=0.8,
        max_error=0.05,
        sorting_confidence=0.95,
        costs=CostMatrix(missed_defect=7.0, false_alarm=6.0, wrong_type=5.0, human_look=4.0),
        defect_share=0.01,
    )
