"""job.json holds what was written and refuses what was not."""

import dataclasses
import json
from pathlib import Path

import pytest

from velm_train.cli.launch.record import new_record, read_job, submitted_again, utc_now, write_job
from velm_train.core.errors import ArtifactError


def test_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = dataclasses.replace(
        new_record(3, ("lora.r=4", "seed=1")), state="failed", attempts=2, exit_status=-9, message="killed", host="n1"
    )
    write_job(tmp_path, record)
    assert read_job(tmp_path) == record
    body = json.loads((tmp_path / "job.json").read_text())
    assert (body["schema_version"], body["number"], body["overrides"]) == (1, 3, ["lora.r=4", "seed=1"])


def test_folder_without_a_job_has_none(tmp_path: Path) -> None:
    assert read_job(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", '{"number": 1}', "{"])
def test_damaged_record_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"job\.json cannot be read: .*remove it to run the job anew"):
        read_job(tmp_path)


def test_job_submitted_again_keeps_what_it_has_run_and_forgets_its_end() -> None:
    record = dataclasses.replace(
        new_record(0, ()),
        state="failed",
        attempts=2,
        requeues=1,
        exit_status=1,
        message="broken",
        scheduler_job_id="7_0",
        ended=utc_now(),
        seconds=12.5,
    )
    again = submitted_again(record)
    assert (again.state, again.attempts, again.seconds) == ("pending", 2, 12.5)
    assert (again.requeues, again.exit_status, again.message, again.scheduler_job_id, again.ended) == (
        0,
        None,
        "",
        None,
        None,
    )


def test_times_are_utc_and_iso() -> None:
    assert utc_now().endswith("+00:00")
