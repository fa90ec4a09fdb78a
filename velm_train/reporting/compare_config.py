"""Settings of several runs go in; what differs, and which runs are equal but for the seed, come out."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from velm_train.core.comparison import SettingDifference

SEED_KEY = "seed"

CIRCUMSTANCES = (
    "name",
    "rehearsal",
    "objective",
    "runs",
    "predictions",
    "ckpt",
    "ckpt_path",
    "input",
    "category",
    "paths.",
    "logger.",
    "task.",
    "compare.",
    "score.",
    "predict.",
    "export.",
)
"""Settings, or starts of settings, that change nothing about a run: its name and places, and what other tasks read."""


def flatten(settings: Mapping[str, object], *, prefix: str = "") -> dict[str, str]:
    """Returns dotted key -> value as JSON text; lists are values, and 1.0 and 1 are the same."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, prefix=f"{name}.")
        else:
            flat[name] = json.dumps(_plain(value), sort_keys=True)
    return flat


def is_circumstance(key: str) -> bool:
    """True if a setting changes nothing about a run itself."""
    return any(key == one or (one.endswith(".") and key.startswith(one)) for one in CIRCUMSTANCES)


def differences(runs: Sequence[Mapping[str, str]]) -> tuple[tuple[SettingDifference, ...], int]:
    """Returns the keys whose values are not the same in all runs, sorted, and the number of keys that are equal.

    Args:
        runs: flat settings, one mapping a run.
    """
    keys = sorted({key for settings in runs for key in settings})
    rows = [
        SettingDifference(key=key, values=tuple(settings[key] if key in settings else None for settings in runs))
        for key in keys
    ]
    differing = tuple(row for row in rows if len(set(row.values)) > 1)
    return differing, len(rows) - len(differing)


def equal_but_for_seed(runs: Sequence[Mapping[str, str]]) -> tuple[tuple[int, ...], ...]:
    """Returns positions of runs whose settings are equal but for the seed and the circumstances.

    Args:
        runs: flat settings, one mapping a run.

    Returns:
        One tuple of positions a group, in the order of first occurrence.
    """
    groups: dict[tuple[tuple[str, str], ...], list[int]] = defaultdict(list)
    for position, settings in enumerate(runs):
        kept = {key: value for key, value in settings.items() if key != SEED_KEY and not is_circumstance(key)}
        groups[tuple(sorted(kept.items()))].append(position)
    return tuple(tuple(positions) for positions in groups.values())


def _plain(value: object) -> object:
    """Returns a value such that equal settings give equal JSON texts, whichever program wrote them."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value
