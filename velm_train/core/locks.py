"""The path of a lock file in; the sole right to work beside it out, for one process of all that share the disk."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems say that know no locks."""


@contextmanager
def sole_right(path: Path, *, on_wait: Callable[[], None]) -> Iterator[bool]:
    """Waits until no other process holds the lock, and holds it for the length of the `with` block.

    The right ends with the process that holds it, however it ends; the file it leaves in that case stops nobody.

    Args:
        path: the lock file, in a folder that exists; it is removed afterwards.
        on_wait: called once if another process holds the lock.

    Yields:
        True, or False where the file system knows no locks.

    Raises:
        OSError: if the file cannot be made.
    """
    descriptor = None
    while descriptor is None:
        candidate = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            held = _lock(candidate, on_wait)
            if not held or _is_at(path, candidate):
                descriptor = candidate
        finally:
            if descriptor is None:  # the one who held it before has removed the file: there is a new one, or none
                os.close(candidate)
    try:
        yield held
    finally:
        path.unlink(missing_ok=True)  # while it is still held: whoever waits for it looks at the name again
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """True while a process holds the lock of a file, as far as the file system knows locks.

    That the file exists is not enough: it is made before it is locked, and whoever was killed leaves it behind.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    finally:
        os.close(descriptor)
    return False


def try_lock(descriptor: int) -> bool:
    """Takes the lock of an open file, unless another process holds it; it is held until every copy is closed.

    Returns:
        False if another process holds it; True as well where the file system knows no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _lock(descriptor: int, on_wait: Callable[[], None]) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
