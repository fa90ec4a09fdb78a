"""A block that loads a model with transformers goes in; nothing is written across the program's own output."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers from drawing a bar of its own and from listing weights that are not wanted."""
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - slow to import

    verbosity, shows_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shows_bars:
            transformers_logging.enable_progress_bar()
