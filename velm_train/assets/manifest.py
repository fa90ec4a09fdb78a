"""What a finished asset folder says about itself: written once, checked each time the asset is used."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from velm_train.assets.registry import AssetPin
from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import AssetError
from velm_train.core.hashing import sha256_file

MANIFEST_NAME = "asset.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelSource:
    """Where files came from: one wheel as it was downloaded."""

    package: str
    version: str
    wheel: str
    sha256: str
    licence: str


def write_manifest(folder: Path, pin: AssetPin, *, sources: list[WheelSource]) -> None:
    """Records the sources, the licence, and every file's size and sha256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = {
        "schema_version": SCHEMA_VERSION,
        "name": pin.name,
        "recipe_version": pin.recipe_version,
        "description": pin.description,
        "licence": pin.licence,
        "sources": [asdict(source) for source in sources],
        "files": {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in files
        },
    }
    write_atomic(folder / MANIFEST_NAME, json.dumps(content, indent=1, sort_keys=True))


def read_manifest(folder: Path, pin: AssetPin) -> dict[str, Any]:
    """Reads a manifest and checks that it belongs to the pinned asset.

    Raises:
        AssetError: if it cannot be read, or was written for another schema, recipe, or wheel.
    """
    remedy = f"delete {folder} and run again to make it anew"
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_NAME).read_text())
        found = (manifest["schema_version"], manifest["name"], manifest["recipe_version"])
        wheels = {(source["package"], source["version"]): source["sha256"] for source in manifest["sources"]}
    except (OSError, json.JSONDecodeError) as error:
        raise AssetError(f"asset {folder}: {MANIFEST_NAME} cannot be read ({error}); {remedy}") from error
    except (KeyError, TypeError) as error:
        raise AssetError(f"asset {folder}: {MANIFEST_NAME} lacks a field ({error}); {remedy}") from error
    expected = (SCHEMA_VERSION, pin.name, pin.recipe_version)
    if found != expected:
        raise AssetError(f"asset {folder}: schema, name, recipe are {found}, expected {expected}; {remedy}")
    for wheel in pin.wheels:
        sha256 = wheels.get((wheel.package, wheel.version))
        if sha256 is None or wheel.sha256 not in (None, sha256):
            raise AssetError(f"asset {folder} was not made from the pinned {wheel.requirement}; {remedy}")
    return manifest


def verify_files(folder: Path, pin: AssetPin, *, deep: bool) -> None:
    """Checks every file of a finished asset.

    Args:
        folder: the finished asset.
        pin: what it has to be.
        deep: compare hashes too, not sizes alone.

    Raises:
        AssetError: naming the first file that is missing or damaged.
    """
    remedy = f"delete {folder} and run again to make it anew"
    for name, expected in read_manifest(folder, pin)["files"].items():
        path = folder / name
        if not path.is_file():
            raise AssetError(f"asset {folder}: {name} is missing; {remedy}")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise AssetError(f"asset {folder}: {name} has {size} bytes, expected {expected['bytes']}; {remedy}")
        if deep and (sha256 := sha256_file(path)) != expected["sha256"]:
            raise AssetError(f"asset {folder}: {name} has sha256 {sha256}, expected {expected['sha256']}; {remedy}")
