"""Figures of task=score come back from their file equal; another kind or version is refused."""

import pytest

from velm_train.core.errors import ArtifactError
from velm_train.core.published import LabelledAnswer
from velm_train.metrics.published import published_scores
from velm_train.reporting.score_files import (
    MmadResults,
    NamingScores,
    PublishedRow,
    ScoredFile,
    read_scores,
    write_scores,
)


@pytest.fixture
def record() -> NamingScores:
    answers = [
        LabelledAnswer(image_id=f"{i}", category="nut", gt_label="cut", pred_label=("cut", "bent")[i % 2])
        for i in range(6)
    ]
    return NamingScores(
        scored=ScoredFile(name="a.csv", sha256="0" * 64, file_format="csv", notes=("one",)),
        rows=(PublishedRow(name="a", scores=published_scores(answers, num_bootstrap=10, seed=0)),),
    )


def test_a_record_comes_back_equal(record, tmp_path):
    write_scores(record, tmp_path / "published.json")
    assert read_scores(NamingScores, tmp_path / "published.json") == record


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('"schema_version": 1', '"schema_version": 7', "'schema_version': 7"),
        ('"kind": "NamingScores"', '"kind": "Other"', "'kind': 'Other'"),
        ('"notes"', '"remarks"', "missing fields ['notes']"),
        ('"kind"', '"kind" kind', "cannot be read"),
    ],
)
def test_another_file_is_refused(record, tmp_path, before, after, problem):
    path = tmp_path / "published.json"
    write_scores(record, path)
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(ArtifactError) as caught:
        read_scores(NamingScores, path)
    assert problem in str(caught.value)


def test_a_record_of_another_benchmark_is_refused(record, tmp_path):
    write_scores(record, tmp_path / "results.json")
    with pytest.raises(ArtifactError, match=r"expected .*MmadResults"):
        read_scores(MmadResults, tmp_path / "results.json")
