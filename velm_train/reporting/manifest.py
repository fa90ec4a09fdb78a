"""A run's circumstances go in; one record of versions, machine, checkout, seeds, hashes and costs comes out."""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from velm_train.core.memory import forget_peak, resident_peak_bytes

REPORTED_PACKAGES = (
    "velm_train",
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "pytorch-lightning",
    "hydra-core",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
)

_NOT_INSTALLED = "not installed"


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCost:
    """What one stage of the run took.

    Attributes:
        wall_seconds: elapsed time.
        peak_memory_bytes: highest resident memory of the process during the stage, or None if it cannot be told.
        accelerator_peak_bytes: highest memory allocated on the accelerator, or None without one.
        reused: True if a finished artefact was read instead of made.
    """

    stage: str
    wall_seconds: float
    peak_memory_bytes: int | None
    accelerator_peak_bytes: int | None
    reused: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The computer in words; no host name and no paths."""

    platform: str
    cpu: str
    num_cores: int
    memory_bytes: int
    accelerators: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkout:
    """The project's state under version control; `dirty` is True if files differ from the commit."""

    commit: str
    dirty: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything needed to say what was run, where, and at what cost.

    Attributes:
        packages: distribution -> version, or "not installed".
        checkout: None if the project is not a git checkout.
        seeds: what was seeded -> seed.
        hashes: what -> content hash, as given.
        started_utc: ISO 8601 time in UTC.
        ended_utc: ISO 8601 time in UTC.
    """

    python: str
    packages: dict[str, str]
    machine: Machine
    checkout: Checkout | None
    seeds: dict[str, int]
    hashes: dict[str, str]
    started_utc: str
    ended_utc: str
    stages: tuple[StageCost, ...]


class StageMeter:
    """Collects wall seconds and peak memory stage by stage."""

    def __init__(self) -> None:
        """Starts the clock of the run."""
        self.started_utc = utc_now()
        self.stages: list[StageCost] = []

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Measures what runs inside the context; a stage that fails is recorded as well."""
        resettable = forget_peak()
        started = time.perf_counter()
        try:
            yield
        finally:
            wall_seconds = time.perf_counter() - started
            self.add(stage, wall_seconds=wall_seconds, peak_memory_bytes=resident_peak_bytes() if resettable else None)

    def add(
        self,
        stage: str,
        *,
        wall_seconds: float,
        peak_memory_bytes: int | None = None,
        accelerator_peak_bytes: int | None = None,
        reused: bool = False,
    ) -> None:
        """Records a stage that was measured elsewhere."""
        self.stages.append(
            StageCost(
                stage=stage,
                wall_seconds=wall_seconds,
                peak_memory_bytes=peak_memory_bytes,
                accelerator_peak_bytes=accelerator_peak_bytes,
                reused=reused,
            )
        )


def collect_manifest(
    meter: StageMeter,
    *,
    seeds: Mapping[str, int],
    hashes: Mapping[str, str],
    accelerators: Sequence[str],
    project_folder: Path,
) -> Manifest:
    """Describes the run that ends now.

    Args:
        meter: the run's clock.
        seeds: what was seeded -> seed.
        hashes: what -> content hash.
        accelerators: accelerator names as the caller knows them; empty on a CPU.
        project_folder: the folder whose git state is recorded; the path itself is not.
    """
    return Manifest(
        python=platform.python_version(),
        packages={name: _version(name) for name in REPORTED_PACKAGES},
        machine=describe_machine(accelerators),
        checkout=find_checkout(project_folder),
        seeds=dict(seeds),
        hashes=dict(hashes),
        started_utc=meter.started_utc,
        ended_utc=utc_now(),
        stages=tuple(meter.stages),
    )


def utc_now() -> str:
    """Returns the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_machine(accelerators: Sequence[str]) -> Machine:
    """Returns the computer in words."""
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        platform=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_name(),
        num_cores=len(affinity(0)) if affinity else (os.cpu_count() or 1),
        memory_bytes=int(psutil.virtual_memory().total),
        accelerators=tuple(accelerators),
    )


def find_checkout(folder: Path) -> Checkout | None:
    """Returns commit and dirty flag of the git checkout that holds the folder, or None if there is none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return Checkout(commit=commit, dirty=bool(_git(folder, "status", "--porcelain")))


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return finished.stdout.strip() if finished.returncode == 0 else None


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return _NOT_INSTALLED


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
