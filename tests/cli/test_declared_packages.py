"""What is declared is compared with what is installed."""

from importlib import metadata
from pathlib import Path

import pytest
import torch

from velm_train.cli import declared_packages as module
from velm_train.cli.declared_packages import declared_packages


def test_installed_package_of_the_declared_range_fits() -> None:
    torch_status = next(package for package in declared_packages() if package.name == "torch")
    assert torch_status.extra is None
    assert torch_status.version is not None
    assert torch_status.version.startswith(torch.__version__.split("+")[0])
    assert torch_status.fits


def test_every_extra_is_listed_with_the_command_that_brings_it() -> None:
    remedies = {package.extra: package.remedy for package in declared_packages()}
    assert set(remedies) == {None, "gpu", "detectors", "cluster", "tensorboard", "bench", "onnx", "dev"}
    assert remedies[None] == "pip install -c constraints.txt -e ."
    assert remedies["gpu"] == "pip install -c constraints.txt -e '.[gpu]'"


def test_package_outside_its_range_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(
        '[project]\ndependencies = ["torch<1", "no-such-package"]\n[project.optional-dependencies]\nx = ["pytest>=1"]\n'
    )
    monkeypatch.setattr(module, "_PYPROJECT", pyproject)
    old_torch, absent, extra = declared_packages()
    assert (old_torch.fits, old_torch.allowed) == (False, "<1")
    assert (absent.fits, absent.version) == (False, None)
    assert (extra.fits, extra.extra, extra.version) == (True, "x", pytest.__version__)


def test_installed_metadata_declares_extras_where_no_pyproject_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["Metadata-Version: 2.4", "Name: velm_train", "Version: 0", "Provides-Extra: gpu"]
    lines += ["Requires-Dist: torch>=2", "Requires-Dist: deepspeed>=0.1; extra == 'gpu'"]
    folder = tmp_path / "velm_train-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_PYPROJECT", tmp_path / "absent.toml")
    assert metadata.version("velm_train") == "0"
    assert [(package.name, package.extra) for package in declared_packages()] == [("torch", None), ("deepspeed", "gpu")]
