"""Nothing goes in; what the operating system says about memory comes out."""

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def forget_peak() -> bool:
    """Makes Linux forget the highest resident memory so far; False where that is not possible."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def resident_peak_bytes() -> int | None:
    """Returns the highest resident memory since the last `forget_peak`, or None where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else None


def resident_bytes() -> int:
    """Returns the memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def available_bytes() -> int:
    """Returns what this process may still take: of the machine, or of the job's own share if that is less."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no such group, or "max" for no limit
        return free
    return min(free, max(0, limit - used))
