"""Training samples in; those that are learned from, and those that only measure the loss, out."""

import dataclasses
from collections.abc import Callable, Sequence

from velm_train.cli.instruct import Material
from velm_train.cli.prepare import Prepared
from velm_train.cli.visits import Visits
from velm_train.cli.workshop import Workshop
from velm_train.core.hashing import sha256_json
from velm_train.core.records import InstructionSample
from velm_train.datasets.units import bind_units
from velm_train.training.holding_out import hold_out
from velm_train.training.validation import HeldOut
from velm_train.training.windows import PassLimits


def split_material(
    shop: Workshop, prepared: Prepared, material: Material
) -> tuple[Material, tuple[InstructionSample, ...]]:
    """Returns what is learned from and what is held out; nothing of one part or of equal pictures is on both sides.

    Raises:
        ConfigError: if the share comes to nothing.
    """
    share = shop.config.trainer.validation_share
    units = bind_units(prepared.records)
    groups = [units[sample.image_id] for sample in material.samples]
    kinds = [f"{sample.category}/{sample.provenance['image_defect_type']}" for sample in material.samples]
    chosen = hold_out(groups, kinds, share=share, seed=shop.config.seed)
    if not chosen:
        return material, ()
    held_out = tuple(sample for index, sample in enumerate(material.samples) if index in chosen)
    learned = tuple(sample for index, sample in enumerate(material.samples) if index not in chosen)
    num_parts = len({groups[index] for index in chosen})
    shop.progress.note(
        f"{len(held_out)} of {len(material.samples)} training samples, of {num_parts} of {len({*groups})} parts, are "
        "held out of training to measure its loss"
    )
    identity = sha256_json([material.identity, sorted(sample.sample_id for sample in held_out)])
    return dataclasses.replace(material, samples=learned, identity=identity), held_out


def held_out_of(
    shop: Workshop,
    samples: Sequence[InstructionSample],
    *,
    visits: Callable[[Sequence[InstructionSample]], Visits],
) -> HeldOut | None:
    """Returns what measures the loss, as the samples are; None without samples.

    Args:
        shop: settings.
        samples: held out.
        visits: samples -> what makes their batches.
    """
    trainer, every = shop.config.trainer, shop.config.callbacks.validate_every
    if not samples:
        return None
    shown = visits(samples)
    return HeldOut(
        facts=shown.facts(sharing=False),
        collate=shown,
        limits=PassLimits(batch_size=trainer.batch_size, token_budget=trainer.token_budget),
        every=every,
        seed=shop.config.seed,
    )
