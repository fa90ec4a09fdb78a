"""The words of `input=` in, the files they mean out: pictures, folders, globs, lists, and `-` for paths from stdin."""

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.datasets.reading import IMAGE_SUFFIXES, is_image_name

logger = logging.getLogger(__name__)

STDIN = "-"
_MAGIC = frozenset("*?[")


def gather_pictures(words: Sequence[str], *, stdin: Iterable[str]) -> list[Path]:
    """Returns every file to inspect, each once, in the order given; folders and globs sorted.

    A file that is named, or comes from stdin, is taken whatever its name ends in; of folders and globs, the files that
    end like a picture. That a file from stdin is there is seen when it is read.

    Args:
        words: files, folders (with everything below them), globs (`**` for any depth), or "-".
        stdin: gives one path a line for "-"; empty lines are skipped.

    Raises:
        DataError: if a word names nothing that is there, or no picture is found at all.
    """
    found: dict[Path, None] = {}
    num_given = 0
    for word in words:
        for path in _paths(word, stdin=stdin):
            num_given += 1
            found[path] = None
    if not found:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"input={_shown(words)} holds no picture; looked for {endings}")
    if len(found) < num_given:
        logger.warning("inspected once although named more than once: %d", num_given - len(found))
    return list(found)


def _paths(word: str, *, stdin: Iterable[str]) -> Iterator[Path]:
    if word == STDIN:
        yield from (Path(line).expanduser() for line in _lines(stdin))
        return
    path = Path(word).expanduser()
    if path.is_dir():
        yield from _pictures_below(path)
    elif path.exists():
        yield path
    elif _MAGIC & set(word):
        yield from _pictures_of_glob(str(path), word=word)
    else:
        raise DataError(f"input={word} is not there; allowed: a picture, a folder, a glob in quotes, or - for stdin")


def _lines(stdin: Iterable[str]) -> Iterable[str]:
    return (line.rstrip("\r\n") for line in stdin if line.strip())


def _pictures_below(folder: Path) -> Iterator[Path]:
    """Yields the pictures of a folder and of all below it, sorted; hidden ones are left out."""
    num_other = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            if is_image_name(name):
                yield Path(parent) / name
            else:
                num_other += 1
    if num_other:
        _warn_of_others(folder, num_other)


def _pictures_of_glob(pattern: str, *, word: str) -> Iterator[Path]:
    matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        raise DataError(f"input={word} matches nothing")
    num_other = 0
    for match in map(Path, matches):
        if match.is_dir():
            yield from _pictures_below(match)
        elif is_image_name(match.name):
            yield match
        else:
            num_other += 1
    if num_other:
        _warn_of_others(word, num_other)


def _warn_of_others(place: Path | str, number: int) -> None:
    logger.warning("%s: left out, because they do not end like a picture: %d", place, number)


def _shown(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"[{','.join(words)}]"
