"""Sizes of a model and a batch go in; what a person reads about memory comes out, one line each."""

from velm_train.training.memory import BatchSize, MemoryEstimate, MemoryModel, estimate_memory, memory_words, quantised
from velm_train.training.samplers import MicroBatchPlan

_NAMED_SAMPLES = 3


def preflight_line(
    batch: BatchSize, estimate: MemoryEstimate, *, other: int, peak: int | None, limit: int, seconds: float
) -> str:
    """Says what the largest batch takes.

    Args:
        batch: its sizes.
        estimate: predicted.
        other: memory that the process holds beside the weights, bytes.
        peak: measured, bytes, or None if it could not be.
        limit: what there is, bytes.
        seconds: that the pre-flight took.
    """
    parts = {
        "weights": estimate.weights + estimate.copies,
        "gradients": estimate.gradients,
        "optimiser": estimate.optimiser,
        "activations": estimate.activations,
        "logits": estimate.logits,
        "way back": estimate.way_back,
        "batch": estimate.inputs,
        "all else": other,
    }
    listed = ", ".join(f"{name} {memory_words(size)}" for name, size in parts.items())
    measured = "could not be measured" if peak is None else f"is {memory_words(peak)}"
    return (
        f"pre-flight: peak memory of the largest batch ({batch.samples} samples, {batch.tokens} tokens) {measured}, "
        f"predicted {memory_words(sum(parts.values()))} ({listed}), of {memory_words(limit)}; {seconds:.1f} s"
    )


def checkpointing_line(every: int) -> str:
    """Says what checkpointing=auto has come to.

    Args:
        every: blocks of which the first is computed again; 0 for none.
    """
    if every == 0:
        return "trainer.checkpointing=auto: it fits, so all activations are kept"
    if every == 1:
        return "trainer.checkpointing=auto: all blocks compute their activations again"
    return f"trainer.checkpointing=auto: one block in {every} computes its activations again"


def out_of_memory_line(
    plan: MicroBatchPlan, batch: BatchSize, *, model: MemoryModel, every: int, other: int, limit: int
) -> str:
    """Says which batch did not fit, and what would.

    Args:
        plan: of the batch.
        batch: its sizes.
        model: what does not change with the batch.
        every: blocks of which the first is computed again; 0 for none.
        other: memory that the process holds beside the weights, bytes.
        limit: what there is, bytes.
    """

    def needed(model: MemoryModel, batch: BatchSize, every: int) -> str:
        return memory_words(estimate_memory(model, batch, every=every).total + other)

    half = batch.halved()
    knobs: dict[str, str] = {}
    if half.samples < batch.samples:
        knobs[f"trainer.batch_size={half.samples}"] = needed(model, half, every)
        knobs[f"trainer.token_budget={half.tokens}"] = needed(model, half, every)
    if every != 1:
        knobs["trainer.checkpointing=full"] = needed(model, batch, 1)
    if model.decoder_bytes > quantised(model).decoder_bytes:
        knobs["lora=qlora"] = needed(quantised(model), batch, every)
    would = ", ".join(f"{knob} about {size}" for knob, size in knobs.items())
    named = ", ".join(plan.sample_ids[:_NAMED_SAMPLES])
    more = len(plan.sample_ids) - _NAMED_SAMPLES
    return (
        f"out of memory at micro-batch {plan.index} of {batch.samples} samples and {batch.tokens} tokens ({named}"
        f"{f' and {more} more' if more > 0 else ''}): it takes about {needed(model, batch, every)} of "
        f"{memory_words(limit)}; what would help, with what it would take: {would or 'fewer or smaller views'}"
    )


def without_batch_line(model_bytes: int, *, limit: int, reason: str) -> str:
    """Says that not even the model fitted."""
    return (
        f"out of memory before the first batch: the weights alone take {memory_words(model_bytes)} of "
        f"{memory_words(limit)} ({reason}); use lora=qlora, a smaller model, or a device with more memory"
    )
