"""Checks shared by the configuration dataclasses: each names the key, what was got and what is allowed."""

import math

from velm_train.core.errors import ConfigError


def require(condition: bool, *, key: str, got: object, allowed: str) -> None:
    """Refuses a setting unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key}={got} is not possible; allowed: {allowed}")


def one_of(key: str, got: str, allowed: tuple[str, ...]) -> None:
    """Refuses a setting that is not on the list."""
    require(got in allowed, key=key, got=got, allowed=", ".join(allowed))


def between(key: str, got: float, low: float, high: float, unit: str = "") -> None:
    """Refuses a number outside low to high, both included."""
    require(low <= got <= high, key=key, got=got, allowed=f"{low} to {high}{' ' + unit if unit else ''}")


def at_least(key: str, got: float, low: float, unit: str = "") -> None:
    """Refuses a number below the limit, and one that is not finite."""
    require(low <= got < math.inf, key=key, got=got, allowed=f"{low} or more{' ' + unit if unit else ''}")


def inside(key: str, got: float, low: float, high: float) -> None:
    """Refuses a number that is not strictly between the limits."""
    require(low < got < high, key=key, got=got, allowed=f"above {low} and below {high}")
