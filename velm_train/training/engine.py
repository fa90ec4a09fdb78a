"""Settings of the machine and of what is traded on it: memory against time, exactness against speed."""

from dataclasses import dataclass, field

import torch
from pytorch_lightning.strategies import Strategy

from velm_train.core.ranks import ONLY_RANK, Rank
from velm_train.training.preflight import MemorySettings
from velm_train.training.strategies import Precision, StrategyName, make_strategy


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """Where and how training runs.

    Attributes:
        accelerator: Lightning's name.
        devices: number of them on each machine, or their numbers.
        num_nodes: machines.
        strategy: how devices share the work.
        rank: this process among those that train together.
        precision: Lightning's name.
        memory: what is computed again, and whether the largest batch is tried first.
        compile_blocks: True to run the language model's blocks as compiled code.
        peak_tflops: of one device at its best in the precision, 10**12 operations a second; None for no utilisation.
    """

    accelerator: str = "auto"
    devices: int | list[int] = 1
    num_nodes: int = 1
    strategy: StrategyName = "single"
    rank: Rank = ONLY_RANK
    precision: Precision = "32-true"
    memory: MemorySettings = field(default_factory=MemorySettings)
    compile_blocks: bool = False
    peak_tflops: float | None = None

    @property
    def on_gpu(self) -> bool:
        """True if the device is a GPU."""
        return self.accelerator != "cpu" and torch.cuda.is_available()

    def make_strategy(self) -> Strategy | str:
        """Returns Lightning's strategy, a new one at each call."""
        return make_strategy(self.strategy, rank=self.rank, on_gpu=self.on_gpu, precision=self.precision)
