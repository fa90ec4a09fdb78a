"""Facts about files that are costly to compute, kept by path, size and modification time: paths in, bytes out."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from velm_train.core.errors import DataError, ResourceError
from velm_train.core.progress import Advance

Compute = Callable[[Path], bytes]
"""Computes one fact of one file; raises DataError if the file is not as it has to be."""

_CHUNK = 512
"""Files between two commits: what a killed run loses at most."""

_SETTLED_NS = 2_000_000_000
"""A file changed less than this long ago may change again within one tick of its clock, and is not remembered."""

_TIMEOUT_S = 60.0

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS facts (kind TEXT, path TEXT, size INTEGER, mtime_ns INTEGER, value BLOB, "
    "PRIMARY KEY (kind, path)) WITHOUT ROWID"
)


class FileIndex:
    """A cache of facts about files, in one SQLite file that several processes may use at once.

    A fact is trusted while the file's size and modification time are unchanged.
    """

    def __init__(self, path: Path | None, *, num_threads: int) -> None:
        """Remembers where the facts lie; the file is made at first use.

        Args:
            path: the SQLite file, or None to remember nothing.
            num_threads: files read at once, 1 or more.
        """
        self._path = path
        self._num_threads = num_threads

    def facts(
        self, paths: Sequence[Path], *, kind: str, compute: Compute, advance: Advance
    ) -> Iterator[bytes | DataError]:
        """Yields a fact about every file, in order: the remembered one, or a new one.

        Args:
            paths: files; a path may occur more than once.
            kind: name and version of the fact; another name is remembered apart.
            compute: makes the fact; runs in threads.
            advance: receives the number of finished files.

        Yields:
            The fact, or the error that `compute` raised for this file.

        Raises:
            ResourceError: if the index cannot be written.
        """
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            yield from self._chunk(chunk, kind=kind, compute=compute)
            advance(len(chunk))

    def _chunk(self, paths: Sequence[Path], *, kind: str, compute: Compute) -> list[bytes | DataError]:
        keys = [str(path.absolute()) for path in paths]
        stamps = {key: stamp for key, path in zip(keys, paths, strict=True) if (stamp := _stamp(path)) is not None}
        known = self._read(kind, stamps)
        missing = {key: path for key, path in zip(keys, paths, strict=True) if key not in known}
        with ThreadPoolExecutor(self._num_threads) as pool:
            facts = pool.map(lambda path: _attempt(compute, path), missing.values())
            made = dict(zip(missing, facts, strict=True))
        now_ns = time.time_ns()
        rows = [
            (kind, key, *stamps[key], fact)
            for key, fact in made.items()
            if key in stamps and now_ns - stamps[key][1] > _SETTLED_NS and isinstance(fact, bytes)
        ]
        self._write(rows)
        return [known[key] if key in known else made[key] for key in keys]

    def _read(self, kind: str, stamps: dict[str, tuple[int, int]]) -> dict[str, bytes]:
        if self._path is None or not self._path.is_file() or not stamps:
            return {}
        with self._connection(self._path) as connection:
            marks = ",".join("?" * len(stamps))
            query = f"SELECT path, size, mtime_ns, value FROM facts WHERE kind = ? AND path IN ({marks})"
            rows = connection.execute(query, (kind, *stamps)).fetchall()
        return {path: value for path, size, mtime_ns, value in rows if stamps[path] == (size, mtime_ns)}

    def _write(self, rows: Sequence[tuple[object, ...]]) -> None:
        if self._path is None or not rows:
            return
        with self._connection(self._path) as connection:
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", rows)

    @contextmanager
    def _connection(self, path: Path) -> Iterator[sqlite3.Connection]:
        """Opens the index for one transaction and turns every failure into one error that names it."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=_TIMEOUT_S)) as connection, connection:
                connection.execute(_SCHEMA)
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise ResourceError(
                f"file index {path} cannot be used ({error}); delete it, or set paths.artifacts to a folder you may "
                "write"
            ) from error


def _attempt(compute: Compute, path: Path) -> bytes | DataError:
    try:
        return compute(path)
    except DataError as error:
        return error


def _stamp(path: Path) -> tuple[int, int] | None:
    """Returns size and modification time, or None for a file that cannot be asked or has a name SQLite cannot hold."""
    try:
        str(path).encode()
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
