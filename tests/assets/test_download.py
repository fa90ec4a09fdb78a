"""pip's own client against a folder of hand-made wheels, without any network."""

import os
import subprocess
import sys
import venv
import zipfile

import pytest

from velm_train.assets.download import download_with_progress, pip_download
from velm_train.core.errors import AssetError, ResourceError


@pytest.fixture
def wheel_folder(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "velm_cloth-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("velm_cloth/__init__.py", "raise RuntimeError('never run')")
        metadata = "Metadata-Version: 2.1\nName: velm-cloth\nVersion: 1.0\nRequires-Dist: no-such-package\n"
        archive.writestr("velm_cloth-1.0.dist-info/METADATA", metadata)
        archive.writestr("velm_cloth-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("velm_cloth-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_pip_fetches_one_wheel_without_its_dependencies(wheel_folder, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    wheel = pip_download("velm-cloth==1.0", target)
    assert wheel == target / "velm_cloth-1.0-py3-none-any.whl"
    assert wheel.read_bytes() == (wheel_folder / wheel.name).read_bytes()


def test_refusal_quotes_the_last_error_line_of_pip(wheel_folder, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(AssetError, match=r"could not download velm-cloth==2\.0: ERROR: No matching distribution"):
        pip_download("velm-cloth==2.0", target)


def test_missing_pip_is_named(tmp_path, monkeypatch):
    venv.create(tmp_path / "without", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "without" / "bin" / "python"))
    (tmp_path / "wheels").mkdir()
    with pytest.raises(ResourceError, match=r"has no pip.*ensurepip.*paths\.assets"):
        pip_download("velm-cloth==1.0", tmp_path / "wheels")


def test_setuptools_keeps_its_distutils(wheel_folder, tmp_path):
    code = (
        "from pathlib import Path; from velm_train.assets.download import pip_download; "
        f"pip_download('velm-cloth==1.0', Path({str(tmp_path)!r})); import torch.utils.cpp_extension"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_progress_adds_up_to_the_expected_size(tmp_path):
    def write(requirement, folder):
        (folder / "x.whl").write_bytes(bytes(70))
        return folder / "x.whl"

    advances = []
    wheel = download_with_progress(write, "x==1", tmp_path, num_bytes=100, advance=advances.append)
    assert wheel.name == "x.whl"
    assert sum(advances) == 100
