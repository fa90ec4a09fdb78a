"""A root seed and a name in, torch's initialisers made repeatable for the length of a `with` block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from velm_train.core.seeding import derive_seed


@contextmanager
def seeded_init(seed: int, *names: str) -> Iterator[None]:
    """Seeds torch's CPU generator for module construction and puts its state back afterwards.

    Args:
        seed: root seed of the run.
        names: what is initialised, so that one part's draws never shift another's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init", *names))
        yield
