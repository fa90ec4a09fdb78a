"""One folder per finished stage: content-addressed, written atomically, verified when read.

    <root>/<stage>/<key>/artifact.json + the stage's files

The key is the hash of the stage's name, code version, inputs and settings. A folder appears under its key
only when complete; until then it is built under `.partial-<key>`, which a killed run finds again. Of several processes
that want one artefact, one builds it while the others wait for it.
"""

import contextlib
import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velm_train.core.errors import ArtifactError, DiskFullError, ResourceError
from velm_train.core.hashing import canonical_json, sha256_file, sha256_json
from velm_train.core.locks import is_locked, sole_right
from velm_train.core.progress import Progress

SCHEMA_VERSION = 1
MANIFEST_NAME = "artifact.json"
MIN_FREE_BYTES = 256 * 1024**2
"""Free space that must remain after a write, so that a full disk is met before the work, not after it."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageKey:
    """What determines a stage's output.

    Attributes:
        stage: folder name of the stage, such as "detections".
        version: code version of the stage; raised when the same inputs give another output.
        inputs: hashes of what goes in, by name.
        settings: every setting that changes the output.
    """

    stage: str
    version: int
    inputs: dict[str, Any]
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """The first 20 characters of the hash of all four fields (80 bits)."""
        return sha256_json(
            {"stage": self.stage, "version": self.version, "inputs": self.inputs, "settings": self.settings}
        )[:20]


def require_free_disk(folder: Path, *, needed_bytes: int) -> None:
    """Refuses to start a write that would fill the disk.

    Raises:
        DiskFullError: if `needed_bytes` plus a reserve of 256 MiB do not fit.
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes + MIN_FREE_BYTES:
        raise DiskFullError(
            f"disk nearly full at {existing}: {free / 1e6:.0f} MB free, {needed_bytes / 1e6:.0f} MB needed plus a "
            f"reserve of {MIN_FREE_BYTES / 1e6:.0f} MB; free some space or set paths.artifacts to another disk"
        )


@contextlib.contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turns what the system says about a full disk into one error that names the folder.

    Raises:
        DiskFullError: if the disk fills, or the quota is used up, while something is written inside the `with` block.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise DiskFullError(
            f"the disk filled up at {folder}: {error.strerror}; free some space or set paths.artifacts to another disk"
        ) from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file so that readers see the old content or the new, never a part.

    Raises:
        DiskFullError: if the disk is full.
        ResourceError: if the folder cannot be written.
    """
    payload = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        kind = DiskFullError if error.errno in _DISK_FULL else ResourceError
        raise kind(f"cannot write {path}: {error.strerror}; check that the folder is writable") from error


class ArtifactStore:
    """Finds, builds and verifies stage artefacts below one root folder; counts what it built and what it found."""

    def __init__(self, root: Path, *, progress: Progress, patience_s: float = 0.0) -> None:
        """Remembers the root; nothing is created until a stage is built.

        Args:
            root: folder of all stages.
            progress: gets a note for every artefact that is reused or waited for.
            patience_s: how long another process of the run is left the chance to begin an artefact, so that the one
                that shows its progress makes it; seconds.
        """
        self.root = root
        self._patience_s = patience_s
        self.num_built = 0
        self.num_reused = 0
        self._progress = progress
        self._verified: set[Path] = set()

    def folder(self, stage_key: StageKey) -> Path:
        """Returns where the finished artefact lies or will lie."""
        return self.root / stage_key.stage / stage_key.key

    def has(self, stage_key: StageKey) -> bool:
        """True if the artefact is finished (not verified)."""
        return (self.folder(stage_key) / MANIFEST_NAME).is_file()

    def get_or_build(
        self,
        stage_key: StageKey,
        build: Callable[[Path], None],
        *,
        title: str,
        disposable: bool = False,
    ) -> Path:
        """Returns the artefact's folder, building it first if it is not there.

        Args:
            stage_key: what determines the output.
            build: fills the folder it is given. The folder may hold what an interrupted build left; a build
                that can continue from that does, any other overwrites its files.
            title: what the progress note calls it.
            disposable: True for what is made whole or not at all: one that fails verification is made anew, and it
                is said so; what a full disk cut short is removed, not kept for the next run.

        Raises:
            ArtifactError: if a finished artefact fails verification, or a folder without a manifest is in its place.
            DiskFullError: if the disk is full.
            ResourceError: if the folder cannot be written.
        """
        final = self.folder(stage_key)
        if self._reuse(final, title=title, disposable=disposable) is None:
            return final
        with self._building(final, title=title) as partial:
            why_not = self._reuse(final, title=title, disposable=disposable)
            if why_not is None:  # another process was faster
                return final
            if final.exists():
                self._progress.note(f"{title}: {why_not}; it is made anew")
                shutil.rmtree(final)
            partial.mkdir(parents=True, exist_ok=True)
            try:
                build(partial)
                self._seal(partial, stage_key)
            except DiskFullError:
                if disposable:
                    shutil.rmtree(partial)
                raise
            self._publish(partial, final)
        self._verified.add(final)
        return final

    def _reuse(self, final: Path, *, title: str, disposable: bool) -> str | None:
        """Says that a finished artefact is reused and returns None, or returns why it cannot be.

        Raises:
            ArtifactError: if it fails verification and is not to be made anew.
        """
        if not final.exists():
            return "it is not there"
        if final not in self._verified:
            fault = self._fault(final)
            if fault is not None and not disposable:
                raise _damaged(final, fault)
            if fault is not None:
                return fault
            self._verified.add(final)
            self._progress.note(f"{title}: reused {final.parent.name}/{final.name}")
        self.num_reused += 1
        return None

    @contextlib.contextmanager
    def _building(self, final: Path, *, title: str) -> Iterator[Path]:
        """Gives the folder to build in, to one process at a time."""

        def say_so() -> None:
            self._progress.note(f"{title}: waiting for another process that is making it")

        with contextlib.ExitStack() as stack:
            try:
                with naming_full_disk(final.parent):
                    final.parent.mkdir(parents=True, exist_ok=True)
                    lock = final.parent / f".lock-{final.name}"
                    self._leave_to_others(final, lock)
                    held = stack.enter_context(sole_right(lock, on_wait=say_so))
            except OSError as error:
                raise ResourceError(
                    f"cannot write to {final.parent}: {error.strerror}; set paths.artifacts to a folder you may write"
                ) from error
            # Where files cannot be locked, each process builds a copy of its own, and the first to finish counts.
            yield final.parent / f".partial-{final.name}{'' if held else f'.{uuid.uuid4().hex}'}"

    def _leave_to_others(self, final: Path, lock: Path) -> None:
        """Waits until another process has begun or finished, no longer than patience lasts."""
        end = time.monotonic() + self._patience_s
        while time.monotonic() < end and not (final.exists() or is_locked(lock)):
            time.sleep(0.05)

    def _publish(self, partial: Path, final: Path) -> None:
        """Gives a sealed folder its name; where another process was faster, its equal one stays."""
        try:
            partial.replace(final)
        except OSError:
            if not (final / MANIFEST_NAME).is_file():
                raise
            shutil.rmtree(partial)
            self.num_reused += 1
        else:
            self.num_built += 1

    def _seal(self, folder: Path, stage_key: StageKey) -> None:
        (folder / MANIFEST_NAME).unlink(missing_ok=True)  # of a run that was killed between sealing and renaming
        for leftover in folder.rglob(".*.partial"):  # of a run that was killed while it wrote a file
            leftover.unlink()
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "stage": stage_key.stage,
            "version": stage_key.version,
            "key": stage_key.key,
            "inputs": json.loads(canonical_json(stage_key.inputs)),
            "settings": json.loads(canonical_json(stage_key.settings)),
            "files": {
                path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
                for path in files
            },
        }
        write_atomic(folder / MANIFEST_NAME, json.dumps(manifest, indent=1, sort_keys=True))

    def verify(self, folder: Path) -> None:
        """Checks the schema version, the key and every file's size and hash.

        Raises:
            ArtifactError: naming the first file that is missing, damaged, or of another version.
        """
        fault = self._fault(folder)
        if fault is not None:
            raise _damaged(folder, fault)

    @staticmethod
    def _fault(folder: Path) -> str | None:
        """Returns what is wrong with a finished artefact, or None."""
        try:
            manifest = json.loads((folder / MANIFEST_NAME).read_text())
        except (OSError, json.JSONDecodeError) as error:
            return f"artefact {folder}: {MANIFEST_NAME} cannot be read ({error})"
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        if version != SCHEMA_VERSION:
            return f"artefact {folder}: schema version {version} instead of {SCHEMA_VERSION}"
        if manifest["key"] != folder.name:
            return f"artefact {folder}: was made from other inputs, weights or settings (key {manifest['key']})"
        for name, expected in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                return f"artefact {folder}: {name} is missing"
            if path.stat().st_size != expected["bytes"] or sha256_file(path) != expected["sha256"]:
                return f"artefact {folder}: {name} is damaged (size or hash differs)"
        return None


def _damaged(folder: Path, fault: str) -> ArtifactError:
    return ArtifactError(f"{fault}; delete {folder} and run again to make it anew")
