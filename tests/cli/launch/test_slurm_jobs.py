"""Jobs on a real SLURM: warned, preempted, cancelled, broken and refused ones end up where they should."""

from pathlib import Path

import pytest
from rich.console import Console

from velm_train.cli.compose import load_config
from velm_train.cli.launch.hand_over import await_end
from velm_train.cli.launch.look_after import resubmit, show_status
from velm_train.core.errors import ConfigError

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(600)]


def test_array_goes_on_beside_a_failed_job_and_only_that_one_is_resubmitted(tiny_sweep, capsys) -> None:
    sweep = tiny_sweep()
    sweep.submit(["steps=3"], ["steps=4"], ["steps=5", "fails_at=2", "status=1"], ["steps=6"])
    ids = [sweep.scheduler_id(number) for number in range(4)]
    assert ids == [f"{ids[0].split('_')[0]}_{place}" for place in range(4)]
    for number in (0, 1, 3):
        sweep.await_state(number, "finished")
    failed = sweep.await_state(2, "failed")
    assert (failed.note, failed.step, failed.metric) == ("something is broken", None, "")
    assert sweep.record(2).exit_status == 1
    assert sweep.view(3).metric == "all 0.0060"

    assert resubmit(load_config(["task=resubmit", f"sweep={sweep.folder}"]), Console(width=200)) == 0
    assert "submitted 1 job to SLURM" in capsys.readouterr().out
    finished = sweep.await_state(2, "finished")
    assert (finished.restarts, sweep.scheduler_id(2) in ids) == (1, False)
    assert [sweep.record(number).attempts for number in range(4)] == [1, 1, 2, 1]


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_warned_job_saves_is_requeued_and_goes_on_where_it_was(name: str, tiny_sweep, ask) -> None:
    sweep = tiny_sweep()
    sweep.submit(["steps=9", "holds_at=5"])
    sweep.await_step(0, 5)
    ask("scancel", f"--signal={name}", sweep.scheduler_id(0))
    sweep.await_state(0, "pending")
    sweep.start_now(0)
    view = sweep.await_state(0, "finished")
    starts = [line for line in sweep.log(0).splitlines() if "starts at" in line]
    saved = [line for line in sweep.log(0).splitlines() if "saved at" in line]
    assert (len(starts), len(saved)) == (2, 1)
    assert saved[0].endswith(f"SIG{name}")
    assert starts[1].split()[-1] == saved[0].split()[5]
    assert (view.restarts, sweep.record(0).requeues, sweep.record(0).scheduler_job_id) == (1, 1, sweep.scheduler_id(0))


def test_job_in_a_container_saves_although_the_front_of_it_ends_at_once(tiny_sweep, tiny_program, ask) -> None:
    """SLURM sends its signal to all processes; a front such as bwrap dies of it, while the inside saves."""
    sweep = tiny_sweep()
    front = ("sh", "-c", '"$@" & wait', "front", *tiny_program)
    sweep.submit(["steps=9", "holds_at=5", "saves_for=2"], program=front)
    sweep.await_step(0, 5)
    ask("scancel", "--signal=USR1", sweep.scheduler_id(0))
    sweep.start_now(0)
    sweep.await_state(0, "finished")
    assert "rank 0 saved at step 5 after SIGUSR1" in sweep.log(0)
    assert "rank 0 starts at step 5" in sweep.log(0)
    assert (sweep.record(0).attempts, sweep.record(0).requeues) == (2, 1)


def test_job_that_reaches_its_limit_is_warned_and_requeued(tiny_sweep) -> None:
    sweep = tiny_sweep(time_minutes=2, signal_seconds=50)  # SLURM may be a minute early, and a job has to be up by then
    sweep.submit(["steps=9", "holds_at=1"])
    sweep.await_step(0, 1)
    sweep.await_state(0, "pending")
    assert "SIGUSR2" in sweep.log(0)
    assert sweep.record(0).requeues == 1


def test_preempted_job_saves_waits_and_goes_on(tiny_sweep, ask) -> None:
    sweep = tiny_sweep(cpus_per_task=4, partition="main")
    sweep.submit(["steps=9", "holds_at=5"])
    sweep.await_step(0, 5)
    urgent = ask("sbatch", "--parsable", "-p", "high", "-c", "4", "--output=/dev/null", "--wrap", "sleep 3").strip()
    sweep.await_state(0, "pending")
    assert "saved at step" in sweep.log(0)
    assert sweep.record(0).state == "pending"
    sweep.await_gone(urgent)
    sweep.start_now(0)
    sweep.await_state(0, "finished")
    assert sweep.record(0).attempts == 2


def test_cancelled_job_saves_is_not_requeued_and_can_be_resubmitted(tiny_sweep, ask, capsys) -> None:
    sweep = tiny_sweep()
    sweep.submit(["steps=6", "holds_at=3"], ["steps=2"])
    sweep.await_step(0, 3)
    sweep.await_state(1, "finished")
    ask("scancel", sweep.scheduler_id(0))
    sweep.await_state(0, "cancelled")
    sweep.await_ended(0)
    assert (sweep.record(0).state, sweep.record(0).exit_status) == ("preempted", 75)
    show_status(load_config(["task=status", f"sweep={sweep.folder}"]), Console(width=200))
    shown = capsys.readouterr().out
    assert "1 cancelled, 1 finished" in shown
    assert "goes on with: 0" in shown
    saved_at = int((sweep.folder / "0" / "step").read_text())
    resubmit(load_config(["task=resubmit", f"sweep={sweep.folder}"]), Console(quiet=True))
    sweep.await_state(0, "finished")
    assert f"starts at step {saved_at}" in sweep.log(0)
    assert sweep.record(1).attempts == 1


def test_last_requeue_is_the_last(tiny_sweep, ask) -> None:
    sweep = tiny_sweep(max_requeues=0)
    sweep.submit(["steps=9", "holds_at=3"])
    sweep.await_step(0, 3)
    ask("scancel", "--signal=USR2", sweep.scheduler_id(0))
    view = sweep.await_state(0, "preempted")
    assert view.note == "stopped for good: hydra.launcher.max_requeues=0; task=resubmit goes on"


def test_two_tasks_are_two_ranks_and_are_requeued_once(tiny_sweep, ask) -> None:
    sweep = tiny_sweep(tasks_per_node=2)
    sweep.submit(["steps=9", "holds_at=5"])
    sweep.await_step(0, 5)
    sweep.await_text(sweep.folder / "0" / ".ranks" / "1" / "step", "5")  # or it would be held once more
    ask("scancel", "--signal=USR1", sweep.scheduler_id(0))
    sweep.start_now(0)
    sweep.await_state(0, "finished")
    for number, name in enumerate(("job.log", ".ranks/1/job.log")):
        log = sweep.folder / "0" / name
        sweep.await_text(log, f"rank {number} of 2 finished")
        assert log.read_text().count(f"rank {number} saved at step") == 1
    assert (sweep.record(0).attempts, sweep.record(0).requeues) == (2, 1)


def test_rank_that_breaks_ends_the_others(tiny_sweep) -> None:
    sweep = tiny_sweep(tasks_per_node=2)
    program = ("sh", "-c", 'if [ "$SLURM_PROCID" = 1 ]; then exit 3; else exec sleep 600; fi', "rank")
    sweep.submit(["steps=1"], program=program)
    view = sweep.await_state(0, "failed")
    assert view.note == "rank 1 ended with exit status 3; see .ranks/1/job.log"


def test_job_sees_the_gpu_it_asked_for_and_the_setup_lines(tiny_sweep) -> None:
    sweep = tiny_sweep(gpus_per_node=1, setup_lines=["export COLOUR='dark red'"], sbatch={"comment": "tiny"})
    sweep.submit(["steps=1"], program=("sh", "-c", 'echo "gpu $CUDA_VISIBLE_DEVICES, $COLOUR"', "words"))
    sweep.await_state(0, "finished")
    assert sweep.log(0).splitlines()[1] == "gpu 0, dark red"


@pytest.mark.parametrize(
    ("changes", "reason", "knob"),
    [
        ({"partition": "nowhere"}, "Invalid partition name specified", "hydra.launcher.partition"),
        ({"gpus_per_node": 8}, "Requested node configuration is not available", "hydra.launcher.cpus_per_task"),
        ({"memory_gb": 1e6}, "Memory specification can not be satisfied", "hydra.launcher.memory_gb"),
        ({"constraint": "moon"}, "Invalid feature specification", "hydra.launcher.constraint"),
        ({"sbatch": {"no-such-option": "x"}}, "unrecognized option", "hydra.launcher.sbatch"),
    ],
)
def test_refused_job_is_one_line_with_the_knob_and_nothing_is_left(
    changes: dict[str, object], reason: str, knob: str, tiny_sweep
) -> None:
    sweep = tiny_sweep(**changes)
    with pytest.raises(ConfigError) as caught:
        sweep.submit(["steps=1"], ["steps=2"])
    text = str(caught.value)
    assert reason in text
    assert f"nothing was submitted: change {knob}" in text
    assert "\n" not in text
    assert not (sweep.folder / "0").exists()


def test_reason_why_a_job_waits_for_ever_is_shown(tiny_sweep) -> None:
    """SLURM takes what no partition can ever serve, unless the cluster enforces its limits."""
    sweep = tiny_sweep(nodes=3)
    sweep.submit(["steps=1"])
    sweep.await_note(0, "PartitionConfig")
    assert sweep.view(0).state == "pending"


def test_whoever_waits_sees_every_end(tiny_sweep, capsys) -> None:
    sweep = tiny_sweep()
    sweep.submit(["steps=2"], ["steps=3", "fails_at=1", "status=2"])
    await_end([0, 1], sweep=sweep.folder, poll_seconds=0.5, console=Console(width=200))
    lines = sorted(capsys.readouterr().out.splitlines())
    assert lines[0].startswith("job 0 finished after")
    assert lines[1].startswith("job 1 failed after")
    assert lines[2] == "waiting for the jobs; Ctrl-C ends the waiting, not the jobs"
    assert lines[1].endswith(": something is broken")


def test_environment_of_a_surrounding_job_does_not_reach_the_submitted_one(
    tiny_sweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "7")
    sweep = tiny_sweep()
    sweep.submit(["steps=1"])
    sweep.await_state(0, "finished")
    assert "rank 0 of 1 finished" in sweep.log(0)
