"""Artefacts appear whole or not at all, are reused with a note, and are refused by name when damaged."""

import dataclasses
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from velm_train.core import artifacts
from velm_train.core.artifacts import ArtifactStore, StageKey, require_free_disk, write_atomic
from velm_train.core.errors import ArtifactError, ResourceError
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


def test_key_is_the_head_of_the_hash_of_all_fields() -> None:
    # sha256sum of {"inputs":{"images":"ab"},"settings":{"k":3},"stage":"toy","version":1}
    assert KEY.key == "6c823874ba5daa3aefcc"


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "toys"},
        {"version": 2},
        {"inputs": {"images": "ac"}},
        {"inputs": {"images": "ab", "more": None}},
        {"settings": {"k": 4}},
        {"settings": {"k": 3, "l": 0}},
        {"settings": {}},
    ],
)
def test_key_changes_with_every_field(change: dict) -> None:
    assert dataclasses.replace(KEY, **change).key != KEY.key


def test_key_does_not_depend_on_the_order_of_the_settings() -> None:
    one, other = (dataclasses.replace(KEY, settings=settings) for settings in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert one.key == other.key


def test_nothing_is_made_before_a_stage_is_built(store: ArtifactStore) -> None:
    assert not store.has(KEY)
    assert not store.root.exists()


def test_finished_artefact_holds_its_files_and_a_manifest(store: ArtifactStore) -> None:
    folder = store.get_or_build(KEY, build, title="toy stage")
    assert folder == store.root / "toy" / KEY.key == store.folder(KEY)
    assert store.has(KEY)
    assert [path.name for path in folder.parent.iterdir()] == [KEY.key]
    manifest = json.loads((folder / "artifact.json").read_text())
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {"rows.json": 6, "sub/state.bin": 2}
    assert {name: manifest[name] for name in ("stage", "version", "inputs", "settings")} == dataclasses.asdict(KEY)


def test_settings_that_are_no_plain_json_are_written_in_their_canonical_form(store: ArtifactStore) -> None:
    key = dataclasses.replace(KEY, settings={"folder": Path("a/b"), "names": {"y", "x"}})
    manifest = json.loads((store.get_or_build(key, build, title="toy") / "artifact.json").read_text())
    assert manifest["settings"] == {"folder": "a/b", "names": ["x", "y"]}


def test_second_run_reuses_it_and_says_so(store: ArtifactStore) -> None:
    first = store.get_or_build(KEY, build, title="toy stage")
    second = again(store)
    assert second.get_or_build(KEY, refuse, title="toy stage") == first
    assert second._progress.lines == [f"toy stage: reused toy/{KEY.key}"]


def test_same_run_neither_verifies_nor_notes_it_twice(store: ArtifactStore) -> None:
    folder = store.get_or_build(KEY, build, title="toy stage")
    (folder / "rows.json").unlink()
    store.get_or_build(KEY, refuse, title="toy stage")
    assert store._progress.lines == []


def test_interrupted_build_leaves_no_artefact_and_continues_where_it_stopped(store: ArtifactStore) -> None:
    seen: list[list[str]] = []

    def build_in_two_runs(folder: Path) -> None:
        seen.append(sorted(path.name for path in folder.iterdir()))
        if not seen[-1]:
            write_atomic(folder / "first.txt", "one")
            raise KeyboardInterrupt
        write_atomic(folder / "second.txt", "two")

    with pytest.raises(KeyboardInterrupt):
        store.get_or_build(KEY, build_in_two_runs, title="toy")
    assert not store.has(KEY)
    assert [path.name for path in (store.root / "toy").iterdir()] == [f".partial-{KEY.key}"]
    folder = again(store).get_or_build(KEY, build_in_two_runs, title="toy")
    assert seen == [[], ["first.txt"]]
    assert sorted(path.name for path in folder.iterdir()) == ["artifact.json", "first.txt", "second.txt"]
    again(store).verify(folder)


def test_run_killed_between_sealing_and_renaming_continues(store: ArtifactStore) -> None:
    folder = store.get_or_build(KEY, build, title="toy")
    (folder / "artifact.json").write_text("{}")
    folder.rename(folder.parent / f".partial-{KEY.key}")
    again(store).get_or_build(KEY, build, title="toy")
    again(store).verify(folder)
    assert "artifact.json" not in json.loads((folder / "artifact.json").read_text())["files"]


def damage_size(folder: Path) -> None:
    (folder / "rows.json").write_text("[1, 2, 3]")


def damage_content(folder: Path) -> None:
    (folder / "rows.json").write_text("[1, 9]")


def lose_file(folder: Path) -> None:
    (folder / "sub" / "state.bin").unlink()


def change_schema(folder: Path) -> None:
    manifest = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps(manifest | {"schema_version": 99}))


def damage_manifest(folder: Path) -> None:
    (folder / "artifact.json").write_text("{")


def replace_manifest(folder: Path) -> None:
    (folder / "artifact.json").write_text("[]")


def lose_manifest(folder: Path) -> None:
    (folder / "artifact.json").unlink()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (damage_size, "rows.json is damaged (size or hash differs)"),
        (damage_content, "rows.json is damaged (size or hash differs)"),
        (lose_file, "sub/state.bin is missing"),
        (change_schema, "schema version 99 instead of 1"),
        (damage_manifest, "artifact.json cannot be read"),
        (replace_manifest, "schema version None instead of 1"),
        (lose_manifest, "artifact.json cannot be read"),
    ],
)
def test_damaged_artefact_is_refused_by_name(store: ArtifactStore, damage, expected: str) -> None:
    folder = store.get_or_build(KEY, build, title="toy")
    damage(folder)
    with pytest.raises(ArtifactError) as caught:
        again(store).get_or_build(KEY, refuse, title="toy")
    assert str(caught.value).startswith(f"artefact {folder}: {expected}")
    assert str(caught.value).endswith(f"delete {folder} and run again to make it anew")


def test_deleting_a_damaged_artefact_makes_it_anew(store: ArtifactStore) -> None:
    folder = store.get_or_build(KEY, build, title="toy")
    shutil.rmtree(folder)
    again(store).verify(again(store).get_or_build(KEY, build, title="toy"))


def test_root_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ArtifactStore(tmp_path / "file" / "store", progress=Notes())
    with pytest.raises(ResourceError, match=r"cannot write to .*set paths\.artifacts to a folder you may write"):
        store.get_or_build(KEY, build, title="toy")


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "file.txt", "old")
    write_atomic(tmp_path / "new" / "file.txt", "größer")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.txt"]
    assert (tmp_path / "new" / "file.txt").read_text(encoding="utf-8") == "größer"


def test_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch) -> None:
    write_atomic(tmp_path / "file.txt", "old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts.os, "fsync", no_space)
    with pytest.raises(ResourceError, match=r"cannot write .*file\.txt: No space left on device"):
        write_atomic(tmp_path / "file.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "old"


def test_write_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="check that the folder is writable"):
        write_atomic(tmp_path / "file" / "deeper" / "x.txt", "new")


@pytest.mark.parametrize(("free_mb", "fits"), [(300, True), (269.5, True), (269.4, False), (0, False)])
def test_write_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch, free_mb: float, *, fits: bool) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**12, 0, int(free_mb * 1e6)))
    if fits:  # the reserve is 256 MiB = 268.4 MB
        require_free_disk(tmp_path / "not" / "yet", needed_bytes=1_000_000)
        return
    with pytest.raises(
        ResourceError, match=rf"disk nearly full at {tmp_path}: .* 1 MB needed plus a reserve of 268 MB"
    ):
        require_free_disk(tmp_path / "not" / "yet", needed_bytes=1_000_000)


def test_file_that_a_killed_run_was_writing_is_no_part_of_the_artefact(store: ArtifactStore) -> None:
    partial = store.root / "toy" / f".partial-{KEY.key}"
    write_atomic(partial / "kept.txt", "x")
    (partial / ".rows.json.123.partial").write_text("[1,")
    folder = store.get_or_build(KEY, build, title="toy")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "artifact.json",
        "kept.txt",
        "rows.json",
        "state.bin",
    ]


def test_store_counts_what_it_built_and_what_it_found(store: ArtifactStore) -> None:
    store.get_or_build(KEY, build, title="toy")
    assert (store.num_built, store.num_reused) == (1, 0)
    store.get_or_build(KEY, refuse, title="toy")
    assert (store.num_built, store.num_reused) == (1, 1)
