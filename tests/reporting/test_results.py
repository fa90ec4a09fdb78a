"""results.json: what is written is read back, other versions are refused."""

import json

import pytest

from velm_train.core.errors import ArtifactError
from velm_train.reporting.results import Results, read_results, write_results


def test_results_survive_the_way_through_the_file(tmp_path, scoreboard, manifest, language, page):
    results = Results(scoreboard=scoreboard, manifest=manifest, language=language, page=page)
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results


def test_other_schema_version_is_refused(tmp_path, scoreboard, manifest):
    path = tmp_path / "results.json"
    write_results(Results(scoreboard=scoreboard, manifest=manifest), path)
    body = json.loads(path.read_text())
    body["schema_version"] = 0
    path.write_text(json.dumps(body))
    with pytest.raises(ArtifactError, match="schema version 0, expected 3"):
        read_results(path)


def test_missing_field_is_refused_by_name(tmp_path, scoreboard, manifest):
    path = tmp_path / "results.json"
    write_results(Results(scoreboard=scoreboard, manifest=manifest), path)
    body = json.loads(path.read_text())
    del body["manifest"]["seeds"]
    path.write_text(json.dumps(body))
    with pytest.raises(ArtifactError, match=r"Results\.manifest: missing fields \['seeds'\]"):
        read_results(path)


def test_file_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_results(path)
