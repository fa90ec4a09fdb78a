"""What a run says about its circumstances."""

import subprocess
from importlib.metadata import version

import numpy as np
import pytest

from velm_train.reporting.manifest import StageMeter, collect_manifest, find_checkout


def git(folder, *arguments):
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_manifest_holds_what_was_given_and_what_is_installed(tmp_path):
    meter = StageMeter()
    manifest = collect_manifest(
        meter, seeds={"root": 0}, hashes={"model": "ab"}, accelerators=("one GPU",), project_folder=tmp_path
    )
    assert manifest.seeds == {"root": 0}
    assert manifest.packages["numpy"] == version("numpy") == np.__version__
    assert manifest.machine.accelerators == ("one GPU",)
    assert manifest.machine.num_cores >= 1
    assert manifest.started_utc <= manifest.ended_utc
    assert manifest.started_utc.endswith("+00:00")
    assert str(tmp_path) not in repr(manifest)


def test_folder_outside_git_has_no_checkout(tmp_path):
    assert find_checkout(tmp_path) is None


def test_checkout_tells_commit_and_whether_files_differ(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.txt").write_text("1")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    clean = find_checkout(tmp_path)
    assert clean is not None
    assert (len(clean.commit), clean.dirty) == (40, False)
    (tmp_path / "a.txt").write_text("2")
    dirty = find_checkout(tmp_path)
    assert dirty is not None
    assert (dirty.commit, dirty.dirty) == (clean.commit, True)


def test_stages_are_measured_in_order_and_failed_ones_are_kept():
    meter = StageMeter()
    with meter.measure("first"):
        block = np.ones(30_000_000 // 8)
    del block
    with pytest.raises(RuntimeError), meter.measure("second"):
        raise RuntimeError
    assert [cost.stage for cost in meter.stages] == ["first", "second"]
    assert all(cost.wall_seconds >= 0 for cost in meter.stages)
    assert all(cost.peak_memory_bytes is None or cost.peak_memory_bytes > 1_000_000 for cost in meter.stages)
