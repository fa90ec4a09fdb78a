"""Anybody's CSV is read with line numbers; what cannot be used stops with its line."""

from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.reporting.imports.csv_predictions import read_csv_predictions


@pytest.fixture
def read(tmp_path: Path):
    def run(text: str | bytes):
        path = tmp_path / "answers.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_csv_predictions(path)

    return run


def test_every_column_is_read(read):
    raw = read(
        "image_id,category,defect_type,answer,flagged,anomaly_score,p_value,group,gate_policy\n"
        "a,nut,cut,Cut,true,1.5,0.01,seen,off\n"
        "\n"
        '"b, 2",nut,good,good,0,-2,1,seen,detector\n'
    )
    first, second = raw.rows
    assert (first.where, second.where) == ("line 2", "line 4")
    assert (first.image_id, first.category, first.gt_defect_type, first.answer) == ("a", "nut", "cut", "Cut")
    assert (first.flagged, first.anomaly_score, first.p_value, first.gate_policy) == (True, 1.5, 0.01, "off")
    assert (second.image_id, second.flagged, second.anomaly_score, second.group) == ("b, 2", False, -2.0, "seen")
    assert raw.notes == ()


def test_two_columns_are_enough_and_an_answer_may_be_empty(read):
    (row,) = read("\ufeffanswer,image_id\n,a\n").rows
    assert (row.image_id, row.answer, row.category, row.flagged, row.anomaly_score) == ("a", "", None, None, None)


def test_a_column_that_nobody_reads_is_said(read):
    assert read("image_id,answer,score,mood\na,cut,1,x\n").notes == ("Columns that are not read: score, mood.",)


def test_a_line_is_counted_where_it_starts(read):
    rows = read('image_id,answer\na,"two\nlines"\nb,cut\n').rows
    assert [row.where for row in rows] == ["line 2", "line 4"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty; at least one prediction"),
        ("  \n", "is empty; at least one prediction"),
        ("image_id,answer\n", "names columns but holds no row"),
        (
            "image,answer\na,cut\n",
            "column 'image_id' is missing; did you mean it by 'image'? needed: image_id, answer; it has: image, answer",
        ),
        ("name,answer\na,cut\n", "line 1: column 'image_id' is missing; needed: image_id, answer; it has: name,"),
        (
            "image_id;answer\na;cut\n",
            "line 1: column 'image_id' is missing; the columns are separated by ';', not by commas: save the file with",
        ),
        ("image_id\tanswer\na\tcut\n", "the columns are separated by '\\t', not by commas"),
        ("image_id,answer,answer\na,cut,cut\n", "line 1: column 'answer' is there twice"),
        ("image_id,answer\na,cut\nb\n", "line 3: 1 values for 2 columns"),
        ("image_id,answer\na,cut\nb,cut\na,bent\n", "line 4: 'a' is in line 2 too"),
        ("image_id,answer\n,cut\n", "line 2: image_id is empty"),
        ("image_id,answer,anomaly_score\na,cut,1\nb,cut,nan\n", "line 3: anomaly_score is nan; a finite number"),
        ("image_id,answer,anomaly_score\na,cut,inf\n", "line 2: anomaly_score is inf"),
        ("image_id,answer,anomaly_score\na,cut,high\n", "line 2: anomaly_score is 'high', not a number"),
        ("image_id,answer,anomaly_score\na,cut,\n", "line 2: anomaly_score is empty"),
        ("image_id,answer,p_value\na,cut,0\n", "line 2: p_value is 0.0; allowed: above 0, at most 1"),
        ("image_id,answer,flagged\na,cut,maybe\n", "line 2: flagged is 'maybe'; allowed: true, false"),
        (
            "image_id,answer,gate_policy\na,cut,magic\n",
            "line 2: gate_policy is 'magic'; allowed: detector, oracle",
        ),
        ('image_id,answer\na,"cut\n', "check its quotes"),
        (b"image_id,answer\na,\xff\n", "is not UTF-8 text"),
    ],
)
def test_what_cannot_be_used_stops_with_its_line(read, text, problem):
    with pytest.raises(DataError) as caught:
        read(text)
    assert problem in str(caught.value)
    assert "answers.csv" in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_csv_predictions(tmp_path / "none.csv")
