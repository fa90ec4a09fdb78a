"""What Lightning says at every start does not reach the user; what anybody else says does."""

import warnings

import pytest
from pytorch_lightning.plugins.environments import SLURMEnvironment

from velm_train.training.quiet import quiet_lightning


def test_an_unused_scheduler_on_the_machine_is_no_matter(monkeypatch, tmp_path):
    program = tmp_path / "srun"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.warns(match="srun"):
        SLURMEnvironment.detect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet_lightning():
            SLURMEnvironment.detect()


def test_other_warnings_are_heard():
    with quiet_lightning(), pytest.warns(UserWarning, match="the lamp is broken"):
        warnings.warn("the lamp is broken", stacklevel=1)
