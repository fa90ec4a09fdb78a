"""task=score on answers to MMAD and VisA-D&R questions."""

import json

import pytest

from velm_train.reporting.score_files import DetectionResults, MmadResults, ReasoningResults, read_scores


def test_mmad_is_scored_both_ways(score, tmp_path, capsys):
    image = "DS-MVTec/bottle/image/broken_large/000.png"
    options = {"A": "Scratch", "B": "Break"}
    asked = [
        {"Question": f"Question {i}?", "Answer": "B", "Options": options, "type": "Defect Classification"}
        for i in range(4)
    ]
    given = [
        {
            "image": image,
            "question": {"text": f"Question {i}?", "options": options},
            "question_type": "Defect Classification",
            "correct_answer": "B",
            "gpt_answer": said,
        }
        for i, said in enumerate(("B", "sorry", "B"))
    ]
    (tmp_path / "mmad.json").write_text(json.dumps({image: {"conversation": asked}}))
    (tmp_path / "answers.json").write_text(json.dumps(given))
    words = ("score.format=mmad", f"score.truth='{tmp_path / 'mmad.json'}'")
    folder = score(tmp_path / "answers.json", *words)
    results = read_scores(MmadResults, folder / "results.json")
    assert (results.scores.official_average, results.scores.strict_micro.value) == (1.0, 0.5)
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 questions whose answer names no option, 1 without answer" in shown
    assert "removes 1 answers that are no letter from A to E, and passes over 1 that stand behind them" in shown
    assert "Options were never permuted" in shown


def test_visa_dr_is_scored(score, tmp_path, capsys):
    images = [f"candle/{i}.JPG" for i in range(4)]
    truth, answers = tmp_path / "test_data.json", tmp_path / "answers.json"
    truth.write_text(json.dumps([{"image": name, "anomaly": i < 3} for i, name in enumerate(images)]))
    said = ("Yes", "No", "Oh yes", "No")
    answers.write_text(json.dumps([{"image": n, "answer": s} for n, s in zip(images, said, strict=True)]))
    folder = score(answers, "score.format=visa_dr_detection", f"score.truth='{truth}'")
    scores = read_scores(DetectionResults, folder / "results.json").scores
    assert (scores.published.accuracy.value, scores.strict.accuracy.value) == (0.75, 0.5)
    truth.write_text(json.dumps([{"image": images[0], "questions": ["What?"], "answers": ["a red spot"]}]))
    answers.write_text(json.dumps([{"image": images[0], "answers": ["a spot"]}]))
    folder = score(answers, "score.format=visa_dr_reasoning", f"score.truth='{truth}'")
    scores = read_scores(ReasoningResults, folder / "results.json").scores
    assert scores.low_level.rouge_l.value == pytest.approx(4 / 5)
    shown = capsys.readouterr().out
    assert "always yes" in shown
    assert "no model named" in shown


def test_a_sentence_model_that_is_not_there_is_named(problem, tmp_path):
    truth, answers = tmp_path / "visa_dr.json", tmp_path / "answers.json"
    truth.write_text(json.dumps([{"image": "candle/0.JPG", "questions": ["What?"], "answers": ["a red spot"]}]))
    answers.write_text(json.dumps([{"image": "candle/0.JPG", "answers": ["a spot"]}]))
    words = ("score.format=visa_dr_reasoning", f"score.truth='{truth}'", f"score.sentence_model={tmp_path}/none")
    assert f"the folder {tmp_path}/none does not exist" in problem(answers, *words)
