"""A batch and a module about to learn go in; the peak memory of its forward and backward pass comes out.

Afterwards everything is as if it had not happened: gradients, buffers and random generators are put back, and no
optimiser has moved. The optimiser's states, which the first real step will make, are stood in for by as many bytes.
"""

import gc
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng

from velm_train.core.memory import available_bytes, forget_peak, resident_bytes, resident_peak_bytes
from velm_train.training.batches import WindowedBatch

_OUT_OF_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "out of memory")


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Memory of the device that trains, bytes.

    Attributes:
        held: by this process now.
        limit: what it could hold.
    """

    held: int
    limit: int


def room_on(device: torch.device) -> Room:
    """Returns how much memory is held and could be; of the CPU, what is resident."""
    if device.type == "cuda":
        return Room(held=torch.cuda.memory_allocated(device), limit=torch.cuda.mem_get_info(device)[1])
    held = resident_bytes()
    return Room(held=held, limit=held + available_bytes())


def peak_on(device: torch.device) -> int | None:
    """Returns the highest memory since the last `forget_peak_on`, or None where the system does not say."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident_peak_bytes()


def forget_peak_on(device: torch.device) -> None:
    """Makes `peak_on` begin anew; where the system cannot, the peak stays that of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak()


def has_states(trainer: pl.Trainer) -> bool:
    """Returns whether the optimiser holds its states already, as in a run that goes on."""
    return any(optimiser.state for optimiser in trainer.optimizers)


def rehearse(trainer: pl.Trainer, module: pl.LightningModule, windowed: WindowedBatch, *, state_bytes: int) -> None:
    """Runs one batch forward and backward as training would, and undoes it.

    Args:
        trainer: with its strategy set up; its precision is used.
        module: in train mode, on its device.
        windowed: on the same device.
        state_bytes: of the optimiser's states, to be held meanwhile.
    """
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        # Filled, because memory that is not written to takes no room on the CPU.
        states = torch.empty(state_bytes, dtype=torch.uint8, device=module.device).fill_(0)
        with isolate_rng(), torch.enable_grad():
            with trainer.precision_plugin.train_step_context():
                output: Any = module.training_step(windowed, 0)
            loss = output["loss"]
            loss.backward()
        del states, output, loss
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def free_unused(device: torch.device) -> None:
    """Gives what nothing refers to back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def ran_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error is an allocator's, of a GPU or of the CPU; the latter has no class of its own."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY_WORDS)
