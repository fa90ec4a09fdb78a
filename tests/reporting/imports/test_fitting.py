"""Rows against label lists and truth: an unseen word adds no class, nothing is dropped, every stop names its row."""

from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType, Taxonomy
from velm_train.metrics.scoreboard import score_rows
from velm_train.reporting.imports.fitting import fit_rows, labels_of
from velm_train.reporting.imports.raw import RawPredictions, RawRow
from velm_train.reporting.imports.truth import GroundTruth, read_truth, truth_by_number, types_by_category

LABELS = labels_of({"nut": ("bent", "cut")})


def raw(*rows: RawRow) -> RawPredictions:
    return RawPredictions(path=Path("answers.csv"), rows=rows, notes=())


def row(image_id: str, answer: str, *, line: int = 2, category="nut", gt="cut", **changes) -> RawRow:
    values = {"flagged": None, "anomaly_score": None, "p_value": None, "group": None, "gate_policy": "detector"}
    return RawRow(
        where=f"line {line}",
        image_id=image_id,
        category=category,
        gt_defect_type=gt,
        answer=answer,
        said=answer,
        source=None,
        **{**values, **changes},
    )


def truth(**shown: str) -> dict[str, GroundTruth]:
    return {name: GroundTruth(category="nut", defect_type=kind, group=None) for name, kind in shown.items()}


def fit(*rows: RawRow, labels=LABELS, truth=None, missing="refuse"):
    return fit_rows(raw(*rows), labels=labels, truth=truth, missing=missing)


@pytest.mark.parametrize(
    ("answer", "named", "said"),
    [
        ("cut", "cut", "cut"),
        (" Cut. ", "cut", "cut"),
        ("good", "good", "good"),
        ("No defect", "good", "good"),
        ("None of these.", None, "none of these"),
        ("chipped", None, "chipped"),
        ("", None, "Unknown class"),
    ],
)
def test_what_an_answer_stands_for(answer, named, said):
    fitted = fit(row("a", answer))
    assert fitted.predictions[0].pred_defect_type == named
    assert fitted.answers[0].pred_label == said


def test_none_of_these_and_unparsed_stay_apart_in_the_figures():
    fitted = fit(row("a", "none of these"), row("b", "chipped"), row("c", "cut"))
    calibration = score_rows(fitted.predictions, label_sets=LABELS.sets, num_bootstrap=10, seed=0).overall.calibration
    assert (calibration.none_of_these_fraction.k, calibration.unparsed_fraction.k) == (1, 1)


def test_an_unseen_word_never_adds_a_class():
    rows = [row("a", "cut"), row("b", "bent", gt="bent")]
    figures = []
    for extra in ("bent", "gebogen"):
        fitted = fit(*rows, row("c", extra))
        scores = score_rows(fitted.predictions, label_sets=LABELS.sets, num_bootstrap=10, seed=0)
        figures.append((scores.confusions[0].gt_labels, scores.overall.system.end_to_end_balanced_recall.value))
    assert figures[0] == figures[1] == (("bent", "cut", "good"), 0.75)


def test_answers_that_count_as_wrong_are_said_with_the_first_row():
    fitted = fit(row("a", "cut"), row("b", "gebogen", line=3), row("c", "gebogen", line=4))
    assert any("2 of 3 answers name no type" in note and "line 3: 'gebogen' (2)" in note for note in fitted.notes)


def test_display_names_are_understood_where_a_taxonomy_gives_them():
    def kind(name: str) -> DefectType:
        return DefectType(display_name=name, description="", synonyms=())

    category = CategoryTaxonomy(
        noun="nut", normal_description="", defect_types={"bent": kind("warped edge"), "cut": kind("bent")}
    )
    labels = labels_of({"nut": ("bent", "cut")}, Taxonomy(dataset="x", categories={"nut": category}))
    named = [labels.meaning("nut", answer) for answer in ("Warped edge.", "bent", "cut", "edge")]
    assert named == ["bent", "bent", "cut", None]  # a type's own name comes before another's display name


def test_without_a_gate_column_every_answer_but_good_is_flagged():
    fitted = fit(row("a", "cut"), row("b", "good"))
    assert [one.pred_label for one in fitted.predictions] == [True, False]
    assert [one.anomaly_score for one in fitted.predictions] == [1.0, 0.0]
    assert any("does not say what the gate decided" in note for note in fitted.notes)


def test_the_gate_column_is_believed():
    fitted = fit(row("a", "good", flagged=True), row("b", "good", flagged=False))
    assert [one.pred_label for one in fitted.predictions] == [True, False]
    assert fitted.notes == ("1 listed types have no image and are in no figure: nut/bent.",)


def test_types_and_categories_without_images_are_said():
    fitted = fit(row("a", "cut", flagged=True), labels=labels_of({"nut": ("bent", "cut"), "bolt": ("cut",)}))
    assert fitted.notes == (
        "1 listed categories have no image and are in no figure: bolt.",
        "1 listed types have no image and are in no figure: nut/bent.",
    )


@pytest.mark.parametrize(
    ("rows", "shown", "problem"),
    [
        ([row("a", "cut", gt=None)], None, "line 2: 'a' has no defect_type; add it to the file or give the truth"),
        ([row("a", "cut", category=None)], None, "line 2: 'a' has no category"),
        ([row("a", "cut", gt="rust")], None, "line 2: the true type 'rust' is not on the label list of nut: bent, cut"),
        ([row("a", "cut", category="bolt")], None, "line 2: category 'bolt' has no label list; known: nut"),
        (
            [row("img_1", "cut")],
            {"img_2": "cut"},
            "line 2: image 'img_1' is not in the test set; did you mean 'img_2'",
        ),
        ([row("a", "cut")], {"a": "bent"}, "line 2: 'a' has true type 'cut', in the truth 'bent'"),
        ([row("a", "cut", category="bolt")], {"a": "cut"}, "line 2: 'a' has category 'bolt', in the truth 'nut'"),
        ([row("a", "cut", flagged=False)], None, "line 2: the gate let 'a' pass, but the answer is 'cut'"),
        ([row("a", "huh", flagged=False)], None, "line 2: the gate let 'a' pass, but the answer is 'huh'"),
        (
            [row("a", "cut", anomaly_score=1.0), row("b", "cut", line=3)],
            None,
            "line 3: no anomaly score, while others have one",
        ),
        ([row("a", "cut")], {"a": "cut", "b": "cut", "c": "good"}, "2 of 3 images of the test set have no prediction"),
    ],
)
def test_what_cannot_be_used_stops_with_its_row(rows, shown, problem):
    with pytest.raises(DataError) as caught:
        fit(*rows, truth=None if shown is None else truth(**shown))
    assert problem in str(caught.value)
    assert str(caught.value).startswith("answers.csv")


def test_images_without_a_prediction_count_as_wrong_where_that_is_asked_for():
    fitted = fit(row("a", "cut", gt=None), truth=truth(a="cut", b="cut", c="good"), missing="wrong")
    system = score_rows(fitted.predictions, label_sets=LABELS.sets, num_bootstrap=10, seed=0).overall.system
    assert (system.end_to_end_balanced_recall.value, system.normal_recall.value) == (0.5, 0.0)
    assert system.velm_accuracy.value == pytest.approx(1 / 3)
    assert sum(one.gt_label == one.pred_label for one in fitted.answers) == 1
    assert any("2 images without a prediction count as wrong: b, c" in note for note in fitted.notes)


def test_an_image_without_prediction_has_no_anomaly_score_to_rank_it_by():
    with pytest.raises(DataError, match="1 images have no prediction and so no anomaly score, for instance b"):
        fit(row("a", "cut", anomaly_score=3.0), truth=truth(a="cut", b="cut"), missing="wrong")


def test_truth_comes_from_a_table(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("image_id,category,defect_type,group\na,nut,cut,seen\nb,nut,good,seen\n")
    found = read_truth(path)
    assert found["a"] == GroundTruth(category="nut", defect_type="cut", group="seen")
    (prediction,) = fit(row("a", "cut", gt=None, category=None), truth={"a": found["a"]}).predictions
    assert (prediction.category, prediction.gt_defect_type, prediction.group) == ("nut", "cut", "seen")
    path.write_text("image_id,category,defect_type\na,nut,cut\na,nut,good\n")
    with pytest.raises(DataError, match="line 3: 'a' is in line 2 too"):
        read_truth(path)


def test_truth_by_number_and_label_lists_of_it():
    found = truth_by_number({"nut": {"good": (1, 12), "cut": (1,)}, "bolt": {"good": (3,)}})
    assert sorted(found) == ["bolt/good/003", "nut/cut/001", "nut/good/001", "nut/good/012"]
    pairs = [(one.category, one.defect_type) for one in found.values()]
    assert types_by_category(pairs) == {"bolt": (), "nut": ("cut",)}
