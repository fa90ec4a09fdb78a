"""Processes that want one artefact share it, damaged ones are made anew where asked for, and a full disk is named."""

import dataclasses
import errno
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from velm_train.core import locks
from velm_train.core.artifacts import ArtifactStore, StageKey, naming_full_disk, write_atomic
from velm_train.core.errors import ArtifactError, DiskFullError
from velm_train.core.progress import SilentProgress

KEY = StageKey(stage="toy", version=1, inputs={"images": "ab"}, settings={"k": 3})


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def build(folder: Path) -> None:
    write_atomic(folder / "rows.json", "[1, 2]")
    write_atomic(folder / "sub" / "state.bin", b"\x00\x01")


def refuse(folder: Path) -> None:
    pytest.fail("it was built again")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store", progress=Notes())


def again(store: ArtifactStore) -> ArtifactStore:
    """Returns the store as the next run sees it."""
    return ArtifactStore(store.root, progress=Notes())


def build_slowly(root: Path, log: Path, *, title: str, start: Barrier) -> None:
    """What one of several processes does: it wants the same artefact as the others, at the same time."""

    def slow(folder: Path) -> None:
        with log.open("a") as stream:
            stream.write(f"{title} builds\n")
        write_atomic(folder / "first.txt", title)
        time.sleep(1.0)
        write_atomic(folder / "second.txt", title)

    store = ArtifactStore(root, progress=Notes())
    start.wait()
    store.verify(store.get_or_build(KEY, slow, title=title))
    if any("waiting for another" in line for line in store._progress.lines):
        with log.open("a") as stream:
            stream.write(f"{title} waited\n")


def run_together(root: Path, log: Path, number: int) -> list[str]:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(number)
    processes = [
        context.Process(target=build_slowly, args=(root, log), kwargs={"title": str(one), "start": start})
        for one in range(number)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return log.read_text().splitlines()


def test_of_processes_that_want_one_artefact_one_builds_and_the_others_wait_for_it(tmp_path: Path) -> None:
    lines = run_together(tmp_path / "store", tmp_path / "log", number=3)
    assert len([line for line in lines if line.endswith("builds")]) == 1
    assert len([line for line in lines if line.endswith("waited")]) == 2
    folder = tmp_path / "store" / "toy" / KEY.key
    assert (folder / "first.txt").read_text() == (folder / "second.txt").read_text()
    assert [path.name for path in folder.parent.iterdir()] == [KEY.key]


def test_without_locks_each_process_builds_its_own_and_the_first_to_finish_counts(tmp_path: Path, monkeypatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    lines = run_together(tmp_path / "store", tmp_path / "log", number=2)
    assert sorted(lines) == ["0 builds", "1 builds"]
    folder = tmp_path / "store" / "toy" / KEY.key
    assert (folder / "first.txt").read_text() == (folder / "second.txt").read_text()
    assert [path.name for path in folder.parent.iterdir()] == [KEY.key]


def test_killed_builder_holds_nobody_up_and_its_work_is_found_again(tmp_path: Path) -> None:
    def die(folder: Path) -> None:
        write_atomic(folder / "first.txt", "one")
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(
        target=lambda: ArtifactStore(tmp_path, progress=Notes()).get_or_build(KEY, die, title="toy")
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL

    def go_on(folder: Path) -> None:
        assert (folder / "first.txt").read_text() == "one"

    store = ArtifactStore(tmp_path, progress=Notes())
    store.verify(store.get_or_build(KEY, go_on, title="toy"))
    assert [path.name for path in (tmp_path / "toy").iterdir()] == [KEY.key]


def damage(folder: Path) -> None:
    (folder / "rows.json").write_text("[1, 9]")


def lose_file(folder: Path) -> None:
    (folder / "sub" / "state.bin").unlink()


def lose_manifest(folder: Path) -> None:
    (folder / "artifact.json").unlink()


@pytest.mark.parametrize(
    ("harm", "expected"),
    [(damage, "rows.json is damaged"), (lose_file, "sub/state.bin is missing"), (lose_manifest, "artifact.json")],
)
def test_damaged_artefact_is_made_anew_where_that_is_asked_for_and_it_is_said(
    store: ArtifactStore, harm, expected: str
) -> None:
    folder = store.get_or_build(KEY, build, title="toy")
    harm(folder)
    third = again(store)
    assert third.get_or_build(KEY, build, title="toy", disposable=True) == folder
    (note,) = third._progress.lines
    assert note.startswith(f"toy: artefact {folder}: {expected}")
    assert note.endswith("it is made anew")
    assert (folder / "rows.json").read_text() == "[1, 2]"
    third.verify(folder)


def test_artefact_of_other_inputs_under_this_name_is_refused(store: ArtifactStore) -> None:
    other = dataclasses.replace(KEY, inputs={"images": "of other weights"})
    store.get_or_build(other, build, title="toy").rename(store.folder(KEY))
    with pytest.raises(ArtifactError, match=f"made from other inputs, weights or settings .key {other.key}"):
        again(store).get_or_build(KEY, refuse, title="toy")
    third = again(store)
    third.verify(third.get_or_build(KEY, build, title="toy", disposable=True))
    assert "made from other inputs" in third._progress.lines[0]


def test_full_disk_has_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="the disk filled up at"), naming_full_disk(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), naming_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("disposable", [True, False])
def test_what_a_full_disk_cut_short_is_kept_unless_it_is_disposable(store: ArtifactStore, *, disposable: bool) -> None:
    def cut_short(folder: Path) -> None:
        write_atomic(folder / "first.txt", "one")
        raise DiskFullError("full")

    with pytest.raises(DiskFullError):
        store.get_or_build(KEY, cut_short, title="toy", disposable=disposable)
    left = [] if disposable else [f".partial-{KEY.key}"]
    assert [path.name for path in (store.root / "toy").iterdir()] == left


def test_a_patient_process_leaves_the_work_to_another(tmp_path: Path) -> None:
    """The one that shows its progress is to make what all of them need."""
    begun = threading.Event()

    def slowly(folder: Path) -> None:
        begun.set()
        time.sleep(0.3)
        build(folder)

    def late() -> None:
        time.sleep(0.2)
        ArtifactStore(tmp_path, progress=Notes()).get_or_build(KEY, slowly, title="toy")

    first = threading.Thread(target=late)
    first.start()
    patient = ArtifactStore(tmp_path, progress=Notes(), patience_s=10.0)
    patient.verify(patient.get_or_build(KEY, refuse, title="toy"))
    assert begun.is_set()
    first.join()


def test_patience_ends(tmp_path: Path) -> None:
    patient = ArtifactStore(tmp_path, progress=Notes(), patience_s=0.1)
    patient.verify(patient.get_or_build(KEY, build, title="toy"))


def test_a_lock_file_that_nobody_holds_ends_no_patience(tmp_path: Path) -> None:
    """A builder makes the file before it locks it, and one that was killed leaves it behind."""
    lock = tmp_path / "toy" / f".lock-{KEY.key}"
    lock.parent.mkdir()
    lock.touch()

    def late() -> None:
        time.sleep(0.2)
        ArtifactStore(tmp_path, progress=Notes()).get_or_build(KEY, build, title="toy")

    first = threading.Thread(target=late)
    first.start()
    patient = ArtifactStore(tmp_path, progress=Notes(), patience_s=10.0)
    patient.verify(patient.get_or_build(KEY, refuse, title="toy"))
    first.join()
