"""task=score from a file of predictions to tables and run folder, for every format and every way to go wrong."""

import csv
import json
import os
from pathlib import Path

import pytest

from velm_train.cli.compose import load_config
from velm_train.core.errors import ConfigError
from velm_train.reporting.predictions import read_predictions, write_predictions
from velm_train.reporting.results import Results, read_results
from velm_train.reporting.score_files import (
    NamingScores,
    read_scores,
)

COUNTS = Path(__file__).parents[1] / "metrics" / "velm_counts.csv"
RELEASED = os.environ.get("VELM_RELEASED_FILES")
"""Folder with the files released with VELM, `<dataset>_preds_gpt_4o.json` and `<dataset>_des.json`."""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "answers.csv"
    path.write_text(
        "image_id,category,defect_type,answer\n"
        "a,nut,cut,cut\nb,nut,cut,good\nc,nut,bent,Bent\nd,nut,good,good\ne,nut,good,verbogen\n"
    )
    return path


def percent(score) -> float:
    return round(100 * score.value, 1)


def test_a_csv_file_gives_tables_and_a_run_folder(score, table, capsys):
    folder = score(table)
    results = read_results(folder / "results.json")
    names = [row.name for row in results.scoreboard.rows]
    assert names == ["answers", "perfect gate + majority type", "majority type"]
    overall = results.scoreboard.rows[0].scores.overall
    assert overall.system.end_to_end_balanced_recall.value == pytest.approx((1 / 2 + 1) / 2)
    assert overall.detection.image_auroc.value is None
    published = read_scores(NamingScores, folder / "published.json")
    assert published.rows[0].scores.accuracy.value == pytest.approx(3 / 5)
    assert published.rows[0].scores.foreign_labels == ("nut: verbogen",)
    assert [row.pred_defect_type for row in read_predictions(folder / "predictions.jsonl")] == [
        *("cut", "good", "bent", "good"),
        None,
    ]
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("Scoreboard", "As VELM publishes", "75.0", "the first in line 6: 'verbogen' (1)", "results.json"):
        assert words in shown


def test_our_own_predictions_are_scored_alike_with_their_run_beside_them(score, table, tmp_path):
    first = score(table)
    again = score(first / "predictions.jsonl")
    before, after = (read_results(folder / "results.json").scoreboard for folder in (first, again))
    assert after.rows[0].scores == before.rows[0].scores
    assert after.label_sets == before.label_sets == {"nut": ("bent", "cut")}


def test_the_label_lists_of_the_run_hold_where_a_type_has_no_image(score, table):
    folder = score(table)
    rows = [row for row in read_predictions(folder / "predictions.jsonl") if row.gt_defect_type != "bent"]
    write_predictions(rows, folder / "predictions.jsonl")
    again = score(folder / "predictions.jsonl")
    assert read_results(again / "results.json").scoreboard.label_sets == {"nut": ("bent", "cut")}


def test_truth_and_taxonomy_come_from_files_of_their_own(score, table, tmp_path):
    truth = tmp_path / "truth.csv"
    truth.write_text("image_id,category,defect_type,group\na,felt,scratch,seen\nb,felt,good,seen\nc,felt,hole,seen\n")
    table.write_text("image_id,answer\na,Kratzer\nb,good\n")
    taxonomy = tmp_path / "felt.json"
    kind = {"description": "", "synonyms": [], "orientation_matters": False}
    types = {"scratch": {"display_name": "Kratzer", **kind}, "hole": {"display_name": "Loch", **kind}}
    body = {"noun": "felt", "normal_description": "", "defect_types": types}
    taxonomy.write_text(json.dumps({"schema_version": 2, "dataset": "felt", "categories": {"felt": body}}))
    words = (f"score.truth='{truth}'", f"score.taxonomy='{taxonomy}'", "score.missing=wrong")
    board = read_results(score(table, *words) / "results.json").scoreboard
    assert board.label_sets == {"felt": ("hole", "scratch")}
    assert board.rows[0].scores.overall.system.end_to_end_balanced_recall.value == 0.5


@pytest.fixture
def velm_files(tmp_path: Path):
    """Two categories in the format released with VELM; one label key is misspelt."""
    keys = {
        "nut": {"normal": ["is round"], "cut": ["deep cut", ""], "small-hole": ["pinhole", ""]},
        "metal_nut": {"normal": [""], "bent": ["bent rim", ""]},
    }
    answers = {
        "nut_cut_000": "Deep cut",
        "nut_cut_001": "good",
        "nut_small-holes_000": "pinhole",
        "nut_good_000": "good",
        "nut_good_001": "pinhole.",
        "metal_nut_bent_000": "bent rim",
        "metal_nut_good_000": "good",
    }
    for name, body in (("preds.json", answers), ("des.json", keys)):
        (tmp_path / name).write_text(json.dumps(body))
    return tmp_path / "preds.json", f"score.label_keys='{tmp_path / 'des.json'}'"


def test_files_in_the_format_of_velm_are_scored_as_released_and_repaired(score, velm_files, capsys):
    folder = score(*velm_files)
    board = read_results(folder / "results.json").scoreboard
    assert [row.name for row in board.rows][:2] == ["preds", "label keys repaired"]
    recalls = [row.scores.overall.system.end_to_end_balanced_recall.value for row in board.rows[:2]]
    assert recalls == [pytest.approx((0.25 + 1) / 2), pytest.approx((0.75 + 1) / 2)]
    published = read_scores(NamingScores, folder / "published.json")
    accuracies = [row.scores.accuracy.value for row in published.rows[:2]]
    assert accuracies == [pytest.approx((2 / 5 + 1) / 2), pytest.approx((3 / 5 + 1) / 2)]
    assert len(read_predictions(folder / "predictions_label_keys_repaired.jsonl")) == 7
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 label keys are misspelt, so that no answer can be right: nut/small-hole for small-holes." in shown
    assert "'pinhole.' (1)" in shown


def released_format(folder: Path, dataset: str) -> tuple[Path, Path]:
    """Writes the counted answers of VELM as files in its format; every label is its own display name."""
    lines = [line for line in csv.DictReader(COUNTS.open()) if line["dataset"] == dataset]
    numbers: dict[tuple[str, str], int] = {}
    answers, keys = {}, {line["category"]: {"normal": [""]} for line in lines}
    for line in lines:
        label = line["pred_label"]
        if label not in ("good", "Unknown class"):
            keys[line["category"]][label] = [label, ""]
        for _ in range(int(line["count"])):
            kind = (line["category"], line["gt_label"])
            numbers[kind] = numbers.get(kind, -1) + 1
            answers[f"{kind[0]}_{kind[1]}_{numbers[kind]:03d}"] = label
    preds, des = folder / f"{dataset}_preds_gpt_4o.json", folder / f"{dataset}_des.json"
    preds.write_text(json.dumps(answers))
    des.write_text(json.dumps(keys))
    return preds, des


def check_published_figures(folder: Path, dataset: str) -> None:
    board = read_results(folder / "results.json").scoreboard
    rows = read_scores(NamingScores, folder / "published.json").rows
    figures = [(percent(r.scores.accuracy), percent(r.scores.macro_f1), percent(r.scores.kappa)) for r in rows]
    recalls = [percent(row.scores.overall.system.end_to_end_balanced_recall) for row in board.rows]
    gate = board.rows[0].scores.overall.detection
    errors = (gate.miss_rate.k, gate.miss_rate.n, gate.false_alarm_rate.k, gate.false_alarm_rate.n)
    if dataset == "mvtec_ac":
        assert figures[0] == (84.0, 80.3, 79.7)
        assert (figures[1][0], recalls[0], errors) == (49.8, 77.8, (52, 1142, 4, 455))
    else:
        assert figures[0] == (69.6, 58.4, 55.5)
        assert (figures[1][0], figures[2][0]) == (71.6, 68.5)
        assert (recalls[:2], errors) == ([55.2, 58.6], (189, 929, 130, 962))


def test_velms_answers_give_its_published_figures(score, tmp_path):
    preds, des = released_format(tmp_path, "visa_ac")
    check_published_figures(score(preds, f"score.label_keys='{des}'"), "visa_ac")


if RELEASED is not None:

    @pytest.mark.parametrize("dataset", ["mvtec_ac", "visa_ac"])
    def test_the_released_files_give_the_published_figures(score, dataset):
        preds, des = (Path(RELEASED) / f"{dataset}_{name}.json" for name in ("preds_gpt_4o", "des"))
        check_published_figures(score(preds, f"score.label_keys='{des}'", f"score.truth={dataset}"), dataset)


def test_images_of_a_published_list_must_all_be_there(problem, tmp_path):
    preds, des = released_format(tmp_path, "visa_ac")
    words = (f"score.label_keys='{des}'", "score.truth=visa_ac")
    assert "is not in the test set; did you mean" in problem(preds, *words)  # numbers here are not VisA's own
    assert "no list of classes for data set 'visa' (did you mean 'visa_ac'" in problem(
        preds, words[0], "score.truth=visa"
    )


def test_wrong_files_and_settings_are_named(problem, table, tmp_path):
    assert "is no file; give predictions.jsonl" in problem(tmp_path / "none.csv")
    odd = tmp_path / "answers.txt"
    odd.write_text(table.read_text())
    assert "ends in '.txt', which says nothing about its format" in problem(odd)
    assert "score.label_keys=x.json is not possible; allowed: null for csv" in problem(table, "score.label_keys=x.json")
    (tmp_path / "preds.json").write_text("{}")
    assert "score.label_keys=null is not possible" in problem(tmp_path / "preds.json")
    assert "no taxonomy named 'texture' (did you mean 'textures'" in problem(table, "score.taxonomy=texture")


def test_files_without_truth_or_with_other_separators_say_what_to_do(problem, tmp_path):
    bare = tmp_path / "bare.csv"
    bare.write_text("image_id,answer\na,cut\n")
    assert problem(bare) == (
        f"{bare}: no row says what its image shows; add category and true type (columns category and defect_type of a "
        "CSV file), or give them in score.truth"
    )
    half = tmp_path / "half.csv"
    half.write_text("image_id,answer,category,defect_type\na,cut,nut,cut\nb,cut,nut,\n")
    assert "line 3: defect_type is empty" in problem(half)
    excel = tmp_path / "excel.csv"
    excel.write_text("image_id;answer;category;defect_type\na;cut;nut;cut\n")
    assert "the columns are separated by ';', not by commas" in problem(excel)


def test_a_results_file_with_a_wrong_value_is_refused_by_its_place(problem, score, table):
    folder = score(table)
    path = folder / "results.json"
    body = json.loads(path.read_text())
    body["scoreboard"]["label_sets"]["nut"] = "cut"
    path.write_text(json.dumps(body))
    said = problem(folder / "predictions.jsonl")
    assert "results.json: Results.scoreboard.label_sets.nut is 'cut'; a list is needed" in said


def test_a_results_file_of_another_schema_version_is_refused(problem, score, table):
    folder = score(table)
    path = folder / "results.json"
    path.write_text(path.read_text().replace('"schema_version": ', '"schema_version": 9', 1))
    said = problem(folder / "predictions.jsonl")
    assert "results.json: schema version 9" in said
    assert "or name them in score.taxonomy" in said


def test_an_old_split_beside_the_predictions_is_said(score, table, capsys):
    folder = score(table)
    (folder / "split.json").write_text('{"schema_version": 0}')
    score(folder / "predictions.jsonl")
    assert "Types that nobody was taught are not known" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["task=score"], "predictions=null is not possible; allowed: a file"),
        (["predictions=a.csv"], "predictions=a.csv is not possible; allowed: null unless task=score"),
        (["score.format=mmad"], "score.truth=null is not possible; allowed: the benchmark's own file"),
        (["score.format=xml"], "score.format=xml is not possible; allowed: auto, velm_train, csv, velm, mmad"),
        (["score.missing=ignore"], "score.missing=ignore is not possible; allowed: refuse, wrong"),
        (["score.truth=''"], "score.truth='' is not possible"),
        (["score.format=csv", "score.label_keys=a"], "score.label_keys=a is not possible; allowed: null"),
        (["score.sentence_model=a"], "score.sentence_model=a is not possible; allowed: null with score.format=auto"),
    ],
)
def test_settings_that_do_not_fit_are_refused(words, expected):
    with pytest.raises(ConfigError) as caught:
        load_config(words)
    assert expected in str(caught.value)


def test_results_are_those_of_any_run(score, table):
    assert isinstance(read_results(score(table) / "results.json"), Results)


def test_an_unknown_image_stops_with_its_line(problem, table, tmp_path):
    truth = tmp_path / "truth.csv"
    truth.write_text("image_id,category,defect_type\na,nut,cut\n")
    assert "line 3: image 'b' is not in the test set" in problem(table, f"score.truth='{truth}'")
