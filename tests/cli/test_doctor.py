"""The report tells what is true of this machine and of made-up folders."""

import os
import stat
from pathlib import Path

import psutil
import pytest
import torch
from rich.console import Console

from velm_train.assets.library import AssetLibrary, AssetStatus
from velm_train.cli.doctor import (
    DoctorReport,
    ExperimentNeeds,
    collect_doctor_report,
    find_hub_models,
    find_wandb_login,
)
from velm_train.cli.doctor_view import render_doctor_report
from velm_train.core.progress import SilentProgress


def statuses(root: Path) -> list[AssetStatus]:
    return AssetLibrary(root, progress=SilentProgress()).status()


def collect(
    tmp_path: Path, *, folders: dict[str, Path] | None = None, needs: ExperimentNeeds | None = None
) -> DoctorReport:
    return collect_doctor_report(
        folders=folders or {},
        assets=statuses(tmp_path),
        experiments={} if needs is None else {"example": needs},
    )


def shown(report: DoctorReport) -> str:
    console = Console(width=400, record=True, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    console.print(render_doctor_report(report))
    return console.export_text()


def install_sinfo(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, body in (("sinfo", script), ("sbatch", "")):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_machine_is_described_as_it_is(tmp_path: Path) -> None:
    report = collect(tmp_path)
    assert report.torch == torch.__version__
    assert len(report.cuda_devices) == torch.cuda.device_count()
    assert report.ram_bytes == psutil.virtual_memory().total
    assert 1 <= report.num_cores <= (os.cpu_count() or 1)
    assert report.cpu_model


def test_free_disk_is_given_for_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    report = collect(tmp_path, folders={"paths.outputs": tmp_path / "a" / "b", "paths.assets": tmp_path})
    outputs, assets = report.folders
    assert (outputs.exists, assets.exists) == (False, True)
    assert outputs.free_bytes == pytest.approx(assets.free_bytes, rel=0.05)
    assert not (tmp_path / "a").exists()


def test_absent_slurm_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm = collect(tmp_path).slurm
    assert (slurm.sbatch, slurm.partitions) == (None, ())
    assert slurm.problem == "sbatch or sinfo is not on PATH"


def test_slurm_partitions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_sinfo(tmp_path, "echo 'main* up 4 gpu:2'; echo 'high up 1 (null)'", monkeypatch)
    slurm = collect(tmp_path).slurm
    assert slurm.partitions == ("main* up 4 gpu:2", "high up 1 (null)")
    assert slurm.problem is None


def test_failing_sinfo_gives_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_sinfo(tmp_path, "echo 'cannot reach the controller' >&2; exit 1", monkeypatch)
    assert collect(tmp_path).slurm.problem == "sinfo failed: cannot reach the controller"


def test_silent_slurm_controller_is_given_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("velm_train.cli.doctor.SINFO_TIMEOUT_SECONDS", 0.2)
    install_sinfo(tmp_path, "exec sleep 5", monkeypatch)
    assert collect(tmp_path).slurm.problem == "sinfo did not answer within 0.2 s; the controller may be down"


def test_wandb_key_in_the_environment_comes_first(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password x\n")
    assert find_wandb_login({"WANDB_API_KEY": "x"}, home=tmp_path) == "WANDB_API_KEY"
    assert find_wandb_login({}, home=tmp_path) == str(tmp_path / ".netrc")


def test_netrc_entry_of_another_host_is_no_login(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine example.org login user password x\n")
    assert find_wandb_login({}, home=tmp_path) is None
    assert find_wandb_login({"WANDB_BASE_URL": "https://example.org:8443"}, home=tmp_path) is not None


def test_broken_netrc_is_no_login(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("nonsense api.wandb.ai\n")
    assert find_wandb_login({}, home=tmp_path) is None


def test_hub_models_are_those_with_a_snapshot(tmp_path: Path) -> None:
    for name, file in (("models--org--b", "snapshots/1/config.json"), ("models--org--a", "snapshots/1/config.json")):
        (tmp_path / name / file).parent.mkdir(parents=True)
        (tmp_path / name / file).touch()
    (tmp_path / "models--org--interrupted" / "blobs").mkdir(parents=True)
    (tmp_path / "datasets--org--c" / "snapshots" / "1").mkdir(parents=True)
    assert find_hub_models(tmp_path) == ("org/a", "org/b")
    assert find_hub_models(tmp_path / "absent") == ()


def test_experiment_says_what_it_still_needs(tmp_path: Path) -> None:
    needs = ExperimentNeeds(
        assets=("dinov2_small",),
        folders={"dataset.root": None, "paths.extra": tmp_path / "absent", "paths.assets": tmp_path},
        hub_ids=("nobody/no-such-model",),
    )
    (status,) = collect(tmp_path, needs=needs).experiments
    assert [sentence.split(":")[0] for sentence in status.missing] == [
        "asset dinov2_small",
        "dataset.root is not set",
        f"paths.extra={tmp_path / 'absent'} does not exist",
        "hub model nobody/no-such-model",
    ]


def test_experiment_with_all_it_needs_lacks_nothing(tmp_path: Path) -> None:
    needs = ExperimentNeeds(assets=(), folders={"dataset.root": tmp_path}, hub_ids=())
    (status,) = collect(tmp_path, needs=needs).experiments
    assert status.missing == ()


def test_rendering_shows_every_part(tmp_path: Path) -> None:
    needs = ExperimentNeeds(assets=(), folders={"dataset.root": None}, hub_ids=())
    text = shown(collect(tmp_path, folders={"paths.artifacts": tmp_path}, needs=needs))
    installed = f"torch {torch.__version__}"
    for part in ("paths.artifacts", "SLURM", "W&B", "efficientnet_lite0", "MIT", "dataset.root=<folder>", installed):
        assert part in text, part
