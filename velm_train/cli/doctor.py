"""The machine in, a report out: what is here, what is missing, and what each shipped experiment still needs.

Nothing is downloaded and nothing is written; `render_doctor_report` in `doctor_view` shows the report.
"""

import netrc
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import torch
from huggingface_hub import constants as hub_constants

from velm_train.assets.library import AssetStatus
from velm_train.cli.declared_packages import PackageStatus, declared_packages
from velm_train.reporting.manifest import describe_machine

SINFO_TIMEOUT_SECONDS = 3.0
"""An unreachable SLURM controller makes `sinfo` wait for minutes."""

_BF16_CAPABILITY = (8, 0)
"""CUDA compute capability from which bfloat16 has hardware support (Ampere)."""

_WANDB_DEFAULT_URL = "https://api.wandb.ai"


@dataclass(frozen=True, kw_only=True, slots=True)
class CudaDevice:
    """One CUDA device; `bf16` is True if it computes in bfloat16."""

    name: str
    memory_bytes: int
    bf16: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderSpace:
    """Free space where a folder lies or will lie; `setting` is the key that names the folder."""

    setting: str
    path: Path
    exists: bool
    free_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmStatus:
    """SLURM as this machine sees it.

    Attributes:
        sbatch: path of the submit command, or None.
        partitions: one line of `sinfo` a partition: name, state, nodes, generic resources.
        problem: why no partitions are known, or None.
    """

    sbatch: str | None
    partitions: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentNeeds:
    """What an experiment reads.

    Attributes:
        assets: names of embedded assets.
        folders: setting key, such as "dataset.root" -> the folder, or None where the user has to name it.
        hub_ids: model ids, such as "org/name".
    """

    assets: tuple[str, ...]
    folders: Mapping[str, Path | None]
    hub_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentStatus:
    """What an experiment still lacks, one sentence each; nothing if it can start now."""

    name: str
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorReport:
    """Everything `task=doctor` shows; memory and disk in bytes.

    Attributes:
        cuda_build: CUDA version that torch was built for, or None for a CPU build.
        num_cores: cores this process may use.
        wandb_login: where the W&B key was found, or None.
        hub_offline: True if the hub is not to be asked (HF_HUB_OFFLINE).
    """

    python: str
    torch: str
    cuda_build: str | None
    cuda_devices: tuple[CudaDevice, ...]
    cpu_model: str
    num_cores: int
    ram_bytes: int
    ram_available_bytes: int
    folders: tuple[FolderSpace, ...]
    packages: tuple[PackageStatus, ...]
    slurm: SlurmStatus
    wandb_login: str | None
    hub_cache: Path
    hub_offline: bool
    hub_models: tuple[str, ...]
    assets: tuple[AssetStatus, ...]
    experiments: tuple[ExperimentStatus, ...]


def collect_doctor_report(
    *,
    folders: Mapping[str, Path],
    assets: Sequence[AssetStatus],
    experiments: Mapping[str, ExperimentNeeds],
) -> DoctorReport:
    """Looks at the machine; takes seconds, asks no network but a SLURM controller.

    Args:
        folders: setting key, such as "paths.assets" -> folder whose free space matters; may not exist yet.
        assets: rows of `AssetLibrary.status`.
        experiments: name of each shipped experiment -> what it reads.
    """
    hub_cache = Path(hub_constants.HF_HUB_CACHE)
    hub_models = find_hub_models(hub_cache)
    memory = psutil.virtual_memory()
    return DoctorReport(
        python=platform.python_version(),
        torch=torch.__version__,
        cuda_build=torch.version.cuda,
        cuda_devices=_cuda_devices(),
        cpu_model=describe_machine(()).cpu,
        num_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        ram_bytes=memory.total,
        ram_available_bytes=memory.available,
        folders=tuple(_folder_space(setting, path) for setting, path in folders.items()),
        packages=declared_packages(),
        slurm=_slurm(),
        wandb_login=find_wandb_login(os.environ, home=Path.home()),
        hub_cache=hub_cache,
        hub_offline=bool(hub_constants.HF_HUB_OFFLINE),
        hub_models=hub_models,
        assets=tuple(assets),
        experiments=tuple(
            ExperimentStatus(name=name, missing=_missing(needs, assets=assets, hub_models=hub_models))
            for name, needs in experiments.items()
        ),
    )


def find_hub_models(hub_cache: Path) -> tuple[str, ...]:
    """Returns the ids of the models that have a snapshot in the hub's cache folder, sorted."""
    if not hub_cache.is_dir():
        return ()
    folders = [path for path in hub_cache.glob("models--*") if any(path.glob("snapshots/*/*"))]
    return tuple(sorted(path.name.removeprefix("models--").replace("--", "/") for path in folders))


def find_wandb_login(environment: Mapping[str, str], *, home: Path) -> str | None:
    """Returns where a W&B key lies, "WANDB_API_KEY" or the netrc file's path, or None; asks no server."""
    if environment.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    host = urlsplit(environment.get("WANDB_BASE_URL") or _WANDB_DEFAULT_URL).hostname or ""
    named = environment.get("NETRC")
    for path in [Path(named)] if named else [home / ".netrc", home / "_netrc"]:
        try:
            if path.is_file() and host in netrc.netrc(path).hosts:
                return str(path)
        except (netrc.NetrcParseError, OSError):
            return None
    return None


def _cuda_devices() -> tuple[CudaDevice, ...]:
    devices = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        bf16 = (properties.major, properties.minor) >= _BF16_CAPABILITY
        devices.append(CudaDevice(name=properties.name, memory_bytes=properties.total_memory, bf16=bf16))
    return tuple(devices)


def _folder_space(setting: str, path: Path) -> FolderSpace:
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return FolderSpace(setting=setting, path=path, exists=path.exists(), free_bytes=shutil.disk_usage(existing).free)


def _slurm() -> SlurmStatus:
    sbatch = shutil.which("sbatch")
    sinfo = shutil.which("sinfo")
    if sbatch is None or sinfo is None:
        return SlurmStatus(sbatch=sbatch, partitions=(), problem="sbatch or sinfo is not on PATH")
    try:
        answer = subprocess.run(
            [sinfo, "--noheader", "--format=%P %a %D %G"],
            capture_output=True,
            text=True,
            check=True,
            timeout=SINFO_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        problem = f"sinfo did not answer within {SINFO_TIMEOUT_SECONDS:g} s; the controller may be down"
        return SlurmStatus(sbatch=sbatch, partitions=(), problem=problem)
    except subprocess.CalledProcessError as error:
        return SlurmStatus(sbatch=sbatch, partitions=(), problem=f"sinfo failed: {str(error.stderr).strip()}")
    return SlurmStatus(sbatch=sbatch, partitions=tuple(answer.stdout.split("\n")[:-1]), problem=None)


def _missing(needs: ExperimentNeeds, *, assets: Sequence[AssetStatus], hub_models: Sequence[str]) -> tuple[str, ...]:
    present = {asset.name for asset in assets if asset.present}
    absent_assets = [name for name in needs.assets if name not in present]
    absent_models = [hub_id for hub_id in needs.hub_ids if hub_id not in hub_models]
    lacks = [f"asset {name}: fetched at first use, or now with task=fetch" for name in absent_assets]
    for setting, path in needs.folders.items():
        if path is None:
            lacks.append(f"{setting} is not set: give the folder, {setting}=<folder>")
        elif not path.exists():
            lacks.append(f"{setting}={path} does not exist")
    lacks += [f"hub model {hub_id}: not in the cache, hf download {hub_id}" for hub_id in absent_models]
    return tuple(lacks)
