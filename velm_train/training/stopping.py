"""Signals go in while steps are made; the wish to stop, known to every rank at the same step, comes out."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytorch_lightning as pl
import torch

from velm_train.core.interrupts import STOP_SIGNALS

logger = logging.getLogger(__name__)


class StopRequest(pl.Callback):
    """Turns stop signals into a wish that is fulfilled at the next step boundary. Must stand first.

    A signal only sets a number, so that nothing is ever saved half-way through a step. A second Ctrl-C stops at once.

    Attributes:
        number: of the signal, on every rank once `agreed` has returned True; None without one.
    """

    def __init__(self) -> None:
        """Starts without a wish."""
        self.number: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over the stop signals; only the main thread may, and whoever starts the Trainer gives them back."""
        del trainer, pl_module
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        first = self.number is None
        self.number = number
        if first:
            name = signal.Signals(number).name
            logger.warning("%s: saving at the end of this step, then stopping; Ctrl-C again stops at once", name)

    def agreed(self, trainer: pl.Trainer) -> bool:
        """Returns whether any rank was asked to stop; every rank has to ask at the same step."""
        own = torch.tensor(float(self.number or 0), device=trainer.strategy.root_device)
        number = int(trainer.strategy.reduce(own, reduce_op="max"))
        if number == 0:
            return False
        self.number = number
        return True


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Leaves the stop signals, after a `with` block, to whoever had them before.

    The Trainer takes SIGTERM before any callback can see who had it, so that what a callback would give back is the
    Trainer's own handler: it outlives the training, and swallows SIGTERM from then on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
