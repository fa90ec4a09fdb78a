"""predictions.jsonl: what is written is read back, interrupted runs go on, damage is refused."""

import logging

import pytest

from velm_train.core.errors import ArtifactError
from velm_train.reporting.predictions import PredictionWriter, read_partial, read_predictions, write_predictions


def test_rows_survive_the_way_through_the_file(tmp_path, predictions):
    path = tmp_path / "run" / "predictions.jsonl"
    write_predictions(predictions, path)
    assert read_predictions(path) == predictions
    assert len(path.read_text().splitlines()) == 4


def test_number_that_is_not_finite_is_never_written(tmp_path, predictions):
    predictions[0].seconds["detect"] = float("nan")
    with pytest.raises(ValueError, match="Out of range"):
        write_predictions(predictions, tmp_path / "p.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_writing_goes_on_behind_the_last_complete_row(tmp_path, predictions, caplog):
    path = tmp_path / "predictions.jsonl"
    with PredictionWriter(path) as writer:
        assert writer.resumed == ()
        writer.append(predictions[0])
        writer.append(predictions[1])
    whole = writer.partial_path.read_bytes()
    writer.partial_path.write_bytes(whole[:-20])
    assert not path.exists()
    with caplog.at_level(logging.WARNING), PredictionWriter(path) as again:
        assert again.resumed == (predictions[0],)
        again.append(predictions[1])
        again.append(predictions[2])
    again.finish()
    assert "cut short" in caplog.text
    assert read_predictions(path) == predictions
    assert not again.partial_path.exists()


def test_torn_line_is_reported_not_half_read(tmp_path, predictions):
    path = tmp_path / "p.jsonl"
    write_predictions(predictions, path)
    path.write_bytes(path.read_bytes()[:-1])
    partial = read_partial(path)
    assert partial.torn_line is True
    assert partial.rows == tuple(predictions[:2])
    with pytest.raises(ArtifactError, match="cut short"):
        read_predictions(path)


def test_torn_header_is_written_again(tmp_path, predictions):
    path = tmp_path / "p.jsonl"
    path.with_name("p.jsonl.partial").write_text('{"kind": "velm_tr')
    with PredictionWriter(path) as writer:
        writer.append(predictions[0])
    writer.finish()
    assert read_predictions(path) == predictions[:1]


def test_an_error_keeps_what_was_written(tmp_path, predictions):
    path = tmp_path / "p.jsonl"
    writer = PredictionWriter(path)

    def fail_after_one_row():
        with writer:
            writer.append(predictions[0])
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_after_one_row()
    assert read_partial(writer.partial_path).rows == (predictions[0],)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "expected"),
        (lambda text: "no json\n" + text, "no header"),
        (lambda text: text.replace('"category"', '"class"', 1), r"line 2 .*missing fields \['category'\]"),
        (lambda text: text.replace('"image_id": "1"', '"image_id": 1"'), "line 3"),
    ],
)
def test_damage_is_refused_by_line(tmp_path, predictions, damage, said):
    path = tmp_path / "p.jsonl"
    write_predictions(predictions, path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ArtifactError, match=said):
        read_predictions(path)


def test_absent_file_is_refused_by_name(tmp_path):
    with pytest.raises(ArtifactError, match=r"none\.jsonl"):
        read_predictions(tmp_path / "none.jsonl")
