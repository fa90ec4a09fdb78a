"""Which folders are finished runs; what cannot be compared is refused in one line that names it."""

import json
from pathlib import Path

import pytest

from velm_train.cli.compare_runs import find_finished_runs
from velm_train.core.errors import ArtifactError, DataError


def refused(*given: Path, error=DataError) -> str:
    with pytest.raises(error) as caught:
        find_finished_runs([str(one) for one in given], apart=Path("nowhere"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_runs_that_cannot_be_compared_are_refused_in_one_line(finished, tmp_path: Path) -> None:
    first, other = finished("a"), finished("b")
    assert "is no folder" in refused(first, tmp_path / "absent")
    assert "is named twice" in refused(first, other, first)
    assert "1 finished run;" in refused(first)
    (tmp_path / "empty").mkdir()
    assert "0 finished runs" in refused(tmp_path / "empty")
    (other / "config.yaml").write_text("a: [")
    assert "config.yaml cannot be read" in refused(first, other, error=ArtifactError)
    (other / "config.yaml").unlink()
    assert "config.yaml cannot be read" in refused(first, other, error=ArtifactError)
    lines = (first / "predictions.jsonl").read_text().splitlines()
    (first / "predictions.jsonl").write_text("\n".join([lines[0], lines[1].replace("set/nut/00", "set/nut/zz")]) + "\n")
    assert "is not in split.json" in refused(first, other, error=ArtifactError)


def test_results_of_an_unknown_version_are_refused_and_skipped_in_a_sweep(finished, tmp_path: Path) -> None:
    for name in "abc":
        finished(f"sweep/{name}")
    path = tmp_path / "sweep" / "b" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    assert "schema version 99" in refused(tmp_path / "sweep" / "b", tmp_path / "sweep" / "a", error=ArtifactError)
    runs, skipped = find_finished_runs([str(tmp_path / "sweep")], apart=tmp_path / "x")
    assert [run.folder.name for run in runs] == ["a", "c"]
    assert "schema version 99" in skipped[0].reason
