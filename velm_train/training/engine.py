"""Settings of the machine and of what is traded on it: memory against time, exactness against speed."""

from dataclasses import dataclass, field
from typing import Literal

from pytorch_lightning.strategies import Strategy

from velm_train.training.preflight import MemorySettings

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """Where and how training runs.

    Attributes:
        accelerator: Lightning's name.
        devices: number of them on each node.
        num_nodes: of the run.
        strategy: Lightning's name, or one made.
        precision: Lightning's name.
        memory: what is computed again, and whether the largest batch is tried first.
        compile_blocks: True to run the language model's blocks as compiled code.
        peak_tflops: of one device at its best in the precision, 10**12 operations a second; None for no utilisation.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str | Strategy = "auto"
    precision: Precision = "32-true"
    memory: MemorySettings = field(default_factory=MemorySettings)
    compile_blocks: bool = False
    peak_tflops: float | None = None
