"""Facts about the index that remembers facts about files."""

import os
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from velm_train.core.errors import DataError, ResourceError
from velm_train.datasets import file_index
from velm_train.datasets.file_index import FileIndex

OLD_S = 1_000_000_000


class Reader:
    """Reads files and counts how often each was read."""

    def __init__(self) -> None:
        self.reads: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> bytes:
        with self._lock:
            self.reads[path.name] += 1
        if not path.is_file():
            raise DataError(f"{path} is gone")
        return path.read_bytes()


def old_file(path: Path, content: bytes, *, age_s: int = 0) -> Path:
    path.write_bytes(content)
    os.utime(path, (OLD_S - age_s, OLD_S - age_s))
    return path


def facts(index: FileIndex, paths: list[Path], reader: Reader, *, kind: str = "content 1") -> list[bytes | DataError]:
    return list(index.facts(paths, kind=kind, compute=reader, advance=lambda units: None))


@pytest.fixture
def index(tmp_path: Path) -> FileIndex:
    return FileIndex(tmp_path / "cache/index.sqlite", num_threads=2)


def test_a_known_file_is_not_read_again_by_this_index_or_another(tmp_path: Path, index: FileIndex) -> None:
    paths = [old_file(tmp_path / name, name.encode()) for name in "abc"]
    reader = Reader()
    expected = [b"b", b"a", b"c", b"a"]
    asked = [paths[1], paths[0], paths[2], paths[0]]
    assert facts(index, asked, reader) == expected
    assert facts(index, asked, reader) == expected
    assert facts(FileIndex(tmp_path / "cache/index.sqlite", num_threads=1), asked, reader) == expected
    assert reader.reads == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(("content", "age_s"), [(b"longer", 0), (b"B", 1), (b"B", -1)])
def test_a_file_of_another_size_or_time_is_read_again(
    tmp_path: Path, index: FileIndex, content: bytes, age_s: int
) -> None:
    reader = Reader()
    assert facts(index, [old_file(tmp_path / "a", b"A")], reader) == [b"A"]
    assert facts(index, [old_file(tmp_path / "a", content, age_s=age_s)], reader) == [content]
    assert facts(index, [tmp_path / "a"], reader) == [content]
    assert reader.reads["a"] == 2


def test_a_file_changed_a_moment_ago_is_not_remembered(tmp_path: Path, index: FileIndex) -> None:
    reader = Reader()
    (tmp_path / "a").write_bytes(b"A")
    facts(index, [tmp_path / "a"], reader)
    facts(index, [tmp_path / "a"], reader)
    assert reader.reads["a"] == 2
    settled = time.time() - 3
    os.utime(tmp_path / "a", (settled, settled))
    facts(index, [tmp_path / "a"], reader)
    facts(index, [tmp_path / "a"], reader)
    assert reader.reads["a"] == 3


def test_kinds_are_remembered_apart(tmp_path: Path, index: FileIndex) -> None:
    path, reader = old_file(tmp_path / "a", b"A"), Reader()
    facts(index, [path], reader, kind="content 1")
    facts(index, [path], reader, kind="content 2")
    assert reader.reads["a"] == 2
    facts(index, [path], reader, kind="content 1")
    assert reader.reads["a"] == 2


def test_an_error_is_handed_over_in_its_place_and_not_remembered(tmp_path: Path, index: FileIndex) -> None:
    reader = Reader()
    there, gone = old_file(tmp_path / "a", b"A"), tmp_path / "b"
    first = facts(index, [gone, there], reader)
    assert isinstance(first[0], DataError)
    assert (str(first[0]), first[1]) == (f"{gone} is gone", b"A")
    assert isinstance(facts(index, [gone], reader)[0], DataError)
    assert reader.reads["b"] == 2
    old_file(gone, b"B")
    assert facts(index, [gone], reader) == [b"B"]


def test_an_error_about_an_unchanged_file_is_not_remembered(tmp_path: Path, index: FileIndex) -> None:
    path = old_file(tmp_path / "a", b"A")

    def refuse(path: Path) -> bytes:
        raise DataError(f"{path} is bad")

    (error,) = index.facts([path], kind="content 1", compute=refuse, advance=lambda units: None)
    assert isinstance(error, DataError)
    assert facts(index, [path], Reader()) == [b"A"]


def test_a_file_read_by_two_paths_is_known_by_its_absolute_path(
    tmp_path: Path, index: FileIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        old_file(tmp_path / name / "a", name.encode())
        monkeypatch.chdir(tmp_path / name)
        assert facts(index, [Path("a")], reader) == [name.encode()]
    assert facts(index, [tmp_path / "one/a"], reader) == [b"one"]
    assert reader.reads["a"] == 2


def test_a_name_that_is_not_utf8_is_read_every_time(tmp_path: Path, index: FileIndex) -> None:
    path, reader = old_file(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), b"A"), Reader()
    assert facts(index, [path], reader) == facts(index, [path], reader) == [b"A"]
    assert reader.reads[path.name] == 2


def test_without_a_file_nothing_is_remembered(tmp_path: Path) -> None:
    index, path, reader = FileIndex(None, num_threads=1), old_file(tmp_path / "a", b"A"), Reader()
    facts(index, [path], reader)
    facts(index, [path], reader)
    assert reader.reads["a"] == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a"]


def test_more_files_than_one_chunk_come_in_order_and_are_counted(
    tmp_path: Path, index: FileIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_index, "_CHUNK", 4)
    paths = [old_file(tmp_path / f"{number:02d}", str(number).encode()) for number in range(10)]
    units: list[int] = []
    found = index.facts(paths, kind="content 1", compute=Reader(), advance=units.append)
    assert list(found) == [str(number).encode() for number in range(10)]
    assert units == [4, 4, 2]
    reader = Reader()
    facts(index, paths, reader)
    assert not reader.reads


def test_what_was_read_before_an_interruption_is_remembered(
    tmp_path: Path, index: FileIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_index, "_CHUNK", 4)
    paths = [old_file(tmp_path / f"{number:02d}", b"x") for number in range(10)]
    next(index.facts(paths, kind="content 1", compute=Reader(), advance=lambda units: None))
    reader = Reader()
    facts(index, paths, reader)
    assert sorted(reader.reads) == ["04", "05", "06", "07", "08", "09"]


def test_a_damaged_index_is_refused_by_name(tmp_path: Path) -> None:
    path = old_file(tmp_path / "a", b"A")
    (tmp_path / "index.sqlite").write_bytes(b"not a database, but long enough to be taken for one" * 20)
    with pytest.raises(ResourceError, match=r"file index .*index\.sqlite cannot be used .*; delete it, or set paths"):
        facts(FileIndex(tmp_path / "index.sqlite", num_threads=1), [path], Reader())


def test_an_index_of_another_form_is_refused_by_name(tmp_path: Path) -> None:
    path = old_file(tmp_path / "a", b"A")
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    connection.execute("CREATE TABLE facts (something TEXT)")
    connection.close()
    with pytest.raises(ResourceError, match="cannot be used"):
        facts(FileIndex(tmp_path / "index.sqlite", num_threads=1), [path], Reader())


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    path = old_file(tmp_path / "a", b"A")
    with pytest.raises(ResourceError, match="cannot be used"):
        facts(FileIndex(path / "index.sqlite", num_threads=1), [path], Reader())


def test_two_indexes_write_at_once(tmp_path: Path) -> None:
    paths = [old_file(tmp_path / f"{number:03d}", str(number).encode()) for number in range(100)]
    results: list[list[bytes | DataError]] = []

    def work() -> None:
        results.append(facts(FileIndex(tmp_path / "index.sqlite", num_threads=2), paths, Reader()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[str(number).encode() for number in range(100)]] * 4
