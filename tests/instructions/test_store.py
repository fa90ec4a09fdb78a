"""Samples come back from disk equal, or not at all."""

import json

import pytest

from velm_train.core.errors import ArtifactError
from velm_train.instructions.questions import build_questions
from velm_train.instructions.store import read_samples, sample_to_json, write_samples


@pytest.fixture
def samples(make_finding, category):
    finding = make_finding("hole", name="hole/\u2028\u00e4.png")
    return build_questions(
        finding,
        categories={"brick": category},
        views=("reference", "query_contour", "crop"),
        num_option_orders=2,
        with_descriptions=True,
        seed=0,
    ).kept


def test_samples_come_back_equal(samples, tmp_path):
    write_samples(samples, tmp_path / "samples.jsonl")
    read = read_samples(tmp_path / "samples.jsonl")
    assert [sample_to_json(sample) for sample in read] == [sample_to_json(sample) for sample in samples]
    assert read[0].views[0].image_path == samples[0].views[0].image_path
    assert read[0].views[1].contour.tolist() == [[80, 10], [99, 10], [99, 19]]
    assert read[0].views[2].contour.shape == (0, 2)
    assert read[0].options == samples[0].options


def test_no_samples_come_back_as_none(tmp_path):
    write_samples([], tmp_path / "samples.jsonl")
    assert read_samples(tmp_path / "samples.jsonl") == ()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[:-1], "1 samples instead of 2"),
        (lambda lines: [lines[0], lines[1][:-40], lines[2]], "line 2 is damaged"),
        (lambda lines: [lines[0], lines[1].replace('"target"', '"answer"'), lines[2]], "line 2 is damaged"),
        (lambda lines: [lines[0], lines[1].replace("<image>", ""), lines[2]], "line 2 is damaged"),
        (
            lambda lines: [lines[0].replace('"schema_version": 1', '"schema_version": 0'), *lines[1:]],
            "schema version 0",
        ),
        (lambda lines: lines[1:], "not a file of instruction samples"),
        (lambda lines: lines[3:], "not a file of instruction samples"),
    ],
)
def test_a_damaged_file_is_refused(samples, tmp_path, damage, message):
    path = tmp_path / "samples.jsonl"
    write_samples(samples, path)
    path.write_text("\n".join(damage(path.read_text().splitlines())))
    with pytest.raises(ArtifactError, match=message):
        read_samples(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ArtifactError, match=r"absent\.jsonl cannot be read"):
        read_samples(tmp_path / "absent.jsonl")


def test_every_line_is_json(samples, tmp_path):
    write_samples(samples, tmp_path / "samples.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert rows[0] == {"content": "instruction_samples", "schema_version": 1, "num_samples": 2}
    assert [row["image_id"] for row in rows[1:]] == ["textures/brick/test/hole/\u2028\u00e4.png"] * 2
