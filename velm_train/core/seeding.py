"""Seeds derived from a root seed and names, so that adding one draw never shifts another."""

import hashlib

import numpy as np


def derive_seed(seed: int, *names: str) -> int:
    """Returns a 63-bit seed that depends on the root seed and every name, in order."""
    text = "\x1f".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str) -> np.random.Generator:
    """Returns a generator of its own for the named purpose; 0 is a seed like any other."""
    return np.random.default_rng(derive_seed(seed, *names))
