"""A model with its adapter in, a merged folder out, if adapter, merged and reloaded model answer alike.

model ─► ask ─► merge ─► ask ─► save ─► load ─► ask
           └───── compare ──┘                    │
           └──────────────── compare ────────────┘
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ExportError
from velm_train.models.build import BuiltModel
from velm_train.models.export.merging import cast_weights, merge_adapters, save_merged
from velm_train.models.export.parity import Agreement, Answers, compare_answers, require_agreement

logger = logging.getLogger(__name__)

EVIDENCE_TOLERANCE = 1e-5
"""Largest difference of evidence, as a share of its largest value; the same weights give the same evidence."""

Ask = Callable[[BuiltModel], Answers]
"""Asks a model the same questions every time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedParity:
    """What was compared before a merged folder was kept.

    Attributes:
        reference: answers of the model with its adapter, for further comparisons.
        merged: LoRA added into the weights in memory.
        reloaded: the folder read back.
        evidence_difference: of the reloaded vision tower, as a share of the largest value.
    """

    reference: Answers
    merged: Agreement
    reloaded: Agreement
    evidence_difference: float


def export_merged(
    model: BuiltModel,
    folder: Path,
    *,
    ask: Ask,
    reload: Callable[[Path], BuiltModel],
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    dtype: torch.dtype,
    tolerance_nats: float,
) -> MergedParity:
    """Merges, saves, reads back, and asks in between.

    Args:
        model: with its adapter loaded; of no use afterwards, its weights are given up before they are read back.
        folder: where to write; left behind if the check fails.
        ask: gives the answers that have to agree.
        reload: reads a merged folder.
        pictures: one or more, for the vision tower.
        dtype: of the merged weights, in which all forms answer (a quantised base answers as it is).
        tolerance_nats: largest difference of a log-likelihood, nats.

    Raises:
        ExportError: if the forms do not agree.
    """
    cast_weights(model, dtype)
    reference = ask(model)
    evidence = model.encode_views(pictures)
    origin = merge_adapters(model, dtype=dtype)
    merged = compare_answers("merged", reference=reference, other=ask(model))
    logger.info("merged: %s", merged)
    require_agreement(merged, tolerance_nats=tolerance_nats)
    save_merged(model, folder, origin=origin)
    model.language_model.to("meta")  # two models at once may not fit
    again = reload(folder)
    reloaded = compare_answers("reloaded", reference=reference, other=ask(again))
    logger.info("reloaded: %s", reloaded)
    require_agreement(reloaded, tolerance_nats=tolerance_nats)
    difference = evidence_difference(evidence, again.encode_views(pictures))
    if not difference <= EVIDENCE_TOLERANCE:
        raise ExportError(
            f"the reloaded vision tower sees otherwise: its evidence differs by {difference:.2e} of the largest value, "
            f"allowed are {EVIDENCE_TOLERANCE:.0e}; nothing is kept; its weights may need more than "
            f"export.dtype={_name(dtype)}"
        )
    return MergedParity(reference=reference, merged=merged, reloaded=reloaded, evidence_difference=difference)


def evidence_difference(one: VisionEvidence, other: VisionEvidence) -> float:
    """Returns the largest difference of two towers' evidence as a share of the largest value; inf if tiles differ."""
    shares = []
    for name in ("final", "levels"):
        own, found = getattr(one, name), getattr(other, name)
        if own.shape != found.shape or not torch.equal(one.grid_hw, other.grid_hw):
            return float("inf")
        shares.append(float((own - found).abs().max() / own.abs().max().clamp_min(torch.finfo(own.dtype).tiny)))
    return float("inf") if np.isnan(shares).any() else max(shares)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
