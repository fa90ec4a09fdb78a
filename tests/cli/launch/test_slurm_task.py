"""What scontrol says of a job tells whether it was cancelled or is to go on."""

import pytest

from velm_train.cli.launch.queue import QueuedJob, read_lines
from velm_train.cli.launch.slurm_task import told_to_end


@pytest.mark.parametrize(
    ("state", "run_time", "limit", "ended"),
    [
        ("RUNNING", "00:01:00", "00:10:00", False),
        ("CANCELLED", "00:01:00", "00:10:00", True),
        ("COMPLETING", "00:01:00", "00:10:00", True),
        ("COMPLETING", "00:10:02", "00:10:00", False),  # out of time
        ("COMPLETING", "1-00:00:00", "1-00:00:00", False),
        ("COMPLETING", "23:59:59", "1-00:00:00", True),
        ("COMPLETING", "00:10:02", "UNLIMITED", True),
        ("PENDING", "00:00:00", "00:10:00", False),
    ],
)
def test_cancelled_jobs_are_told_from_those_that_go_on(state: str, run_time: str, limit: str, *, ended: bool) -> None:
    shown = f"JobId=7 JobName=x y=z JobState={state} Reason=None RunTime={run_time} TimeLimit={limit} Comment=a=b"
    assert told_to_end(shown) is ended


def test_nothing_is_concluded_from_an_answer_that_says_nothing() -> None:
    assert not told_to_end("slurm_load_jobs error: Invalid job id specified")


def test_lines_of_squeue_and_sacct_are_read_alike() -> None:
    squeue = "7_0|RUNNING|n1|None\n7_1|PENDING||Resources\n8|FAILED|n2|x\n"
    sacct = "9|CANCELLED by 0|None assigned\n7_3|COMPLETED+|n1\n"
    found = dict(read_lines(squeue + sacct, wanted={"7_0", "7_1", "7_3", "9"}))
    assert found == {
        "7_0": QueuedJob(state="RUNNING", node="n1", reason=""),
        "7_1": QueuedJob(state="PENDING", node="", reason="Resources"),
        "9": QueuedJob(state="CANCELLED", node="", reason=""),
        "7_3": QueuedJob(state="COMPLETED", node="n1", reason=""),
    }
    assert [found[job].active for job in ("7_0", "7_1", "9", "7_3")] == [True, True, False, False]


def test_elements_of_an_array_that_never_started_share_a_line_of_sacct() -> None:
    """As slurmdbd 22.05.8 shows arrays of which some elements were cancelled, before or after others of them began."""
    told = "57_0|COMPLETED|vm\n57_2|FAILED|vm\n57_[2-3,5,7-9%2]|CANCELLED by 0|None assigned\n"
    told += "71_0|COMPLETED|vm\n71|CANCELLED by 0|None assigned\n6|FAILED|vm\n60_4|FAILED|vm\n"
    wanted = {*(f"57_{i}" for i in range(11)), *(f"71_{i}" for i in range(3)), "60_1"}
    found = dict(read_lines(told, wanted=wanted))
    cancelled = (*(f"57_{i}" for i in (3, 5, 7, 8, 9)), "71_1", "71_2")
    others = {"57_0": "COMPLETED", "57_2": "FAILED", "71_0": "COMPLETED"}
    assert {job_id: one.state for job_id, one in found.items()} == dict.fromkeys(cancelled, "CANCELLED") | others
    assert found["57_2"].node == "vm"
