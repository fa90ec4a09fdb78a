"""A decoder in, the same decoder whose blocks run as compiled code out, for the length of a `with` block."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from velm_train.core.errors import ConfigError


def require_compiler() -> None:
    """Refuses a machine on which torch.compile cannot make code; a GPU's code needs a compiler for its callers, too.

    Raises:
        ConfigError: naming the compiler that is missing.
    """
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    wanted = os.environ.get("CXX") or usual
    if shutil.which(wanted.split()[0]) is None:
        raise ConfigError(
            f"trainer.compile=true needs a C++ compiler, and {wanted!r} is not here; install one, name yours in the "
            "environment variable CXX, or set trainer.compile=false"
        )


@contextmanager
def compiled_blocks(decoder: nn.Module) -> Iterator[None]:
    """Runs every block of a decoder as compiled code inside the `with` block.

    Blocks are compiled one by one: they share their code, so that it is made once for all of them, and a tower or
    projector around them stays as it is. Lengths are variables of the code, so that a batch of another length does
    not compile anew; a batch of one sample does, once.

    Args:
        decoder: the language model without its output layer, LoRA and recomputing included.
    """
    layers: Any = decoder.layers
    blocks: list[Any] = list(layers)
    for block in blocks:
        block.compile(dynamic=True)
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None  # torch has no public way back
