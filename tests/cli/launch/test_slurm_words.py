"""What sbatch prints, word for word, becomes one line with the setting to change."""

import pytest

from velm_train.cli.launch.slurm_words import submission_error
from velm_train.core.errors import ConfigError, ResourceError

FAILED = "sbatch: error: Batch job submission failed:"


@pytest.mark.parametrize(
    ("printed", "reason", "knob"),
    [
        (
            f"sbatch: error: invalid partition specified: gpus\n{FAILED} Invalid partition name specified",
            "Invalid partition name specified",
            "partition; `sinfo -s` lists the partitions",
        ),
        (
            f"{FAILED} Invalid account or account/partition combination specified",
            "Invalid account or account/partition combination specified",
            "account; `sacctmgr show associations user=$USER` lists yours",
        ),
        (f"{FAILED} Invalid qos specification", "Invalid qos specification", "qos; `sacctmgr show qos` lists them"),
        (
            f"{FAILED} Requested time limit is invalid (missing or exceeds some limit)",
            "Requested time limit is invalid (missing or exceeds some limit)",
            "time_minutes; `sinfo -o '%P %l'` shows the limits",
        ),
        (
            f"sbatch: error: Memory specification can not be satisfied\n{FAILED} Requested node ... not available",
            "Memory specification can not be satisfied",
            "memory_gb; `sinfo -o '%N %m'` shows the megabytes of a node",
        ),
        (
            "sbatch: unrecognized option '--colour=red'\nTry \"sbatch --help\" for more information",
            "unrecognized option '--colour=red'",
            "sbatch",
        ),
        ("something never heard of", "something never heard of", "*"),
        ("", "no reason given", "*"),
    ],
)
def test_refusal_names_the_knob(printed: str, reason: str, knob: str) -> None:
    error = submission_error(printed)
    assert isinstance(error, ConfigError)
    assert str(error) == (f"SLURM does not take the job: {reason}; nothing was submitted: change hydra.launcher.{knob}")


def test_controller_that_does_not_answer_is_no_fault_of_the_settings() -> None:
    error = submission_error(f"{FAILED} Unable to contact slurm controller (connect failure)")
    assert isinstance(error, ResourceError)
    assert str(error).startswith("SLURM does not answer (Unable to contact slurm controller (connect failure))")
    assert str(error).endswith("try again later, or use hydra/launcher=process")
