"""One folder per finished stage: content-addressed, written atomically, verified when read.

    <root>/<stage>/<key>/artifact.json + the stage's files

The key is the hash of the stage's name, code version, inputs and settings. A folder appears under its key
only when complete; until then it is built under `.partial-<key>`, which a killed run finds again.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velm_train.core.errors import ArtifactError, ResourceError
from velm_train.core.hashing import canonical_json, sha256_file, sha256_json
from velm_train.core.progress import Progress

SCHEMA_VERSION = 1
MANIFEST_NAME = "artifact.json"
MIN_FREE_BYTES = 256 * 1024**2
"""Free space that must remain after a write, so that a full disk is met before the work, not after it."""


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
        ResourceError: if `needed_bytes` plus a reserve of 256 MiB do not fit.
    """
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes + MIN_FREE_BYTES:
        raise ResourceError(
            f"disk nearly full at {existing}: {free / 1e6:.0f} MB free, {needed_bytes / 1e6:.0f} MB needed plus a "
            f"reserve of {MIN_FREE_BYTES / 1e6:.0f} MB; free some space or set paths.artifacts to another disk"
        )


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file so that readers see the old content or the new, never a part.

    Raises:
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
        raise ResourceError(f"cannot write {path}: {error.strerror}; check that the folder is writable") from error


class ArtifactStore:
    """Finds, builds and verifies stage artefacts below one root folder; counts what it built and what it found."""

    def __init__(self, root: Path, *, progress: Progress) -> None:
        """Remembers the root; nothing is created until a stage is built."""
        self.root = root
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

    def get_or_build(self, stage_key: StageKey, build: Callable[[Path], None], *, title: str) -> Path:
        """Returns the artefact's folder, building it first if it is not there.

        Args:
            stage_key: what determines the output.
            build: fills the folder it is given. The folder may hold what an interrupted build left; a build
                that can continue from that does, any other overwrites its files.
            title: what the progress note calls it.

        Raises:
            ArtifactError: if a finished artefact fails verification, or a folder without a manifest is in its place.
            ResourceError: if the folder cannot be written.
        """
        final = self.folder(stage_key)
        if final.exists():
            self.num_reused += 1
            if final not in self._verified:
                self.verify(final)
                self._verified.add(final)
                self._progress.note(f"{title}: reused {stage_key.stage}/{stage_key.key}")
            return final
        partial = final.parent / f".partial-{stage_key.key}"
        try:
            partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"cannot write to {final.parent}: {error.strerror}; set paths.artifacts to a folder you may write"
            ) from error
        build(partial)
        self._seal(partial, stage_key)
        partial.replace(final)
        self.num_built += 1
        self._verified.add(final)
        return final

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
        """Checks the schema version and every file's size and hash.

        Raises:
            ArtifactError: naming the first file that is missing, damaged, or of another version.
        """
        remedy = f"delete {folder} and run again to make it anew"
        try:
            manifest = json.loads((folder / MANIFEST_NAME).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ArtifactError(f"artefact {folder}: {MANIFEST_NAME} cannot be read ({error}); {remedy}") from error
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        if version != SCHEMA_VERSION:
            raise ArtifactError(f"artefact {folder}: schema version {version} instead of {SCHEMA_VERSION}; {remedy}")
        for name, expected in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                raise ArtifactError(f"artefact {folder}: {name} is missing; {remedy}")
            if path.stat().st_size != expected["bytes"] or sha256_file(path) != expected["sha256"]:
                raise ArtifactError(f"artefact {folder}: {name} is damaged (size or hash differs); {remedy}")
