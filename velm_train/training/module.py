"""A vision-language model and windowed batches go in; the loss that Lightning minimises comes out.

The loss of one optimiser step is

    sum of token losses / supervised tokens + bce_weight * sum of image losses / scored views
                                            + mask_weight * sum of mask losses / scored views

with both sums and both counts over every micro-batch of the accumulation window and every rank. The counts are known
before the window starts (`samplers.SamplePlan`). Lightning divides each micro-batch's loss by the accumulation count
and averages gradients over ranks, so each micro-batch is scaled up by the product of the two. The mean of
micro-batch means that Lightning would give otherwise lets a short answer weigh as much as a long one.
"""

import logging
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig

from velm_train.core.batch import Batch
from velm_train.core.errors import DataError
from velm_train.models.look_twice.geometry import object_tokens
from velm_train.models.protocol import VisionLanguageModel
from velm_train.training.batches import WindowedBatch
from velm_train.training.divergence import stop_diverged
from velm_train.training.losses import image_loss_sum, mask_loss_sum
from velm_train.training.optimiser import Optimisation, make_optimiser
from velm_train.training.samplers import MicroBatchPlan
from velm_train.training.sharded_blocks import MeasuringNorm, clip_sharded, is_sharded, shard_blocks
from velm_train.training.trainable import (
    find_unreached,
    keep_trainable_only,
    require_trainable_exactly,
    train_only_what_learns,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerms:
    """What some samples add to the loss of a window.

    Attributes:
        total: the weighted sum.
        parts: name -> term, before it is weighted.
        num_supervised: tokens that carry loss.
    """

    total: Float[torch.Tensor, ""]
    parts: dict[str, Float[torch.Tensor, ""]]
    num_supervised: int


class InspectionModule(pl.LightningModule):
    """Tunes LoRA, projector and look-twice adapter on encoded samples."""

    def __init__(
        self,
        model: VisionLanguageModel,
        *,
        optimisation: Optimisation,
        bce_weight: float,
        pos_weight: float,
        mask_weight: float = 0.0,
    ) -> None:
        """Takes the model as it is.

        Args:
            model: must also be a torch module.
            optimisation: rates, decay and schedule.
            bce_weight: weight of the adapter's own anomaly score, 0 or more.
            pos_weight: weight of anomalous views in it; see `losses.balanced_pos_weight`.
            mask_weight: weight of the token scores' loss against masks, 0 or more.
        """
        super().__init__()
        assert isinstance(model, torch.nn.Module)
        self.model = model
        self.strict_loading = False  # checkpoints hold part of the keys; on_load_checkpoint checks which
        self._optimisation = optimisation
        self._bce_weight = bce_weight
        self._pos_weight = pos_weight
        self._mask_weight = mask_weight
        self._gradients_checked = False

    def training_step(self, windowed: WindowedBatch, batch_idx: int) -> dict[str, torch.Tensor]:
        """Returns the scaled loss, and this micro-batch's shares of the window's loss terms.

        Raises:
            DivergedError: if the loss is not finite.
        """
        del batch_idx
        batch, plan = windowed.batch, windowed.plan
        assert isinstance(batch, Batch)
        terms = self.loss_terms(batch, plan)
        assert terms.num_supervised == plan.num_supervised, "the plan and the labels count different tokens"
        require_finite_loss(terms.total, module=self)
        return {
            "loss": terms.total * (self.trainer.accumulate_grad_batches * self.trainer.world_size),
            "total": terms.total.detach(),
            **{name: value.detach() for name, value in terms.parts.items()},
        }

    def loss_terms(self, batch: Batch, plan: MicroBatchPlan) -> LossTerms:
        """Returns the shares that some samples of a micro-batch have in the window's loss.

        Args:
            batch: all samples of the micro-batch, or some of them.
            plan: of the micro-batch.
        """
        output = self.model.training_output(batch)
        language_loss = output.language_loss_sum / plan.window_supervised
        image_loss, mask_loss = torch.zeros_like(language_loss), torch.zeros_like(language_loss)
        if output.image_logits is not None and self._bce_weight > 0:
            loss_sum = image_loss_sum(
                output.image_logits,
                batch.view_anomalous,
                pos_weight=self._pos_weight,
                view_weight=batch.view_weight,
            )
            image_loss = loss_sum / plan.window_scored_views
        if output.token_scores is not None and self._mask_weight > 0:
            mask_loss = _mask_loss_sum(output.token_scores, batch) / plan.window_scored_views
        total = language_loss + self._bce_weight * image_loss
        parts = {"language": language_loss, "image": image_loss}
        if self._mask_weight > 0:
            total = total + self._mask_weight * mask_loss
            parts["mask"] = mask_loss
        if not len(batch.view_sample):
            # Without a view nothing reaches projector and adapter. Ranks that saw views would wait for their gradients.
            replicated = [one for one in self.parameters() if one.requires_grad and not is_sharded(one)]
            total = total + 0.0 * sum(parameter.sum() for parameter in replicated)
        return LossTerms(total=total, parts=parts, num_supervised=output.num_supervised)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW over the model's groups, each with its own rate, and the schedule."""
        return make_optimiser(self, self.model.trainable_groups(), optimisation=self._optimisation)

    def on_train_start(self) -> None:
        """Sets train mode where something learns, eval mode elsewhere."""
        train_only_what_learns(self)

    def on_after_backward(self) -> None:
        """Says once which learning parameters get no gradient: they stay what they are, and nobody would notice."""
        if self._gradients_checked or isinstance(self.trainer.strategy, MeasuringNorm):
            return
        self._gradients_checked = True
        unreached = find_unreached(self)
        if unreached:
            logger.warning("%d learning parameters get no gradient, such as %s", len(unreached), unreached[0])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps trainable tensors only."""
        keep_trainable_only(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of other tensors; a strategy that spreads weights has put them in place itself."""
        if "state_dict" in checkpoint:
            require_trainable_exactly(self, checkpoint)


class ZeroModule(InspectionModule):
    """The same inside DeepSpeed, which switches off any autocast around it."""

    def training_step(self, windowed: WindowedBatch, batch_idx: int) -> dict[str, torch.Tensor]:
        """Computes as Lightning's mixed precision would; see the plain module.

        DeepSpeed sends gradients in the order in which they become known, and takes it that this order is the same on
        all processes. Without a view it is another one, and gradients of different weights would be added.

        Raises:
            DataError: if the batch has no view and there are other processes.
        """
        assert isinstance(windowed.batch, Batch)
        if self.trainer.world_size > 1 and not len(windowed.batch.view_sample):
            raise DataError(
                f"samples {', '.join(windowed.plan.sample_ids)} show no picture, and every pass of trainer.strategy="
                "deepspeed_* needs one; use ddp or fsdp2"
            )
        mixed = self.trainer.precision == "bf16-mixed"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed):
            return super().training_step(windowed, batch_idx)


class BlockShardedModule(InspectionModule):
    """The same on devices that share the decoder's blocks."""

    def configure_model(self) -> None:
        """Spreads the blocks, once there is a mesh of devices."""
        assert self.device_mesh is not None
        shard_blocks(self.model.decoder, self.device_mesh["data_parallel"])

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by the norm of all gradients, shares and whole ones together."""
        del optimizer, gradient_clip_algorithm
        assert gradient_clip_val is not None
        clip_sharded(self.parameters(), largest=gradient_clip_val)


def _mask_loss_sum(token_scores: Float[torch.Tensor, "T N"], batch: Batch) -> Float[torch.Tensor, ""]:
    evidence = batch.evidence
    assert evidence.gt_scores is not None, "a mask weight above 0 needs the ground truth in every batch"
    return mask_loss_sum(
        token_scores,
        evidence.gt_scores,
        valid=object_tokens(evidence),
        view_index=evidence.view_index,
        view_weight=batch.view_weight,
    )


def require_finite_loss(loss: Float[torch.Tensor, ""], *, module: pl.LightningModule) -> None:
    """Stops a diverged run.

    Raises:
        DivergedError: if the loss is NaN or infinite.
    """
    if not bool(torch.isfinite(loss)):
        folder = module.trainer.default_root_dir
        stop_diverged("loss", value=loss.item(), step=module.global_step, folder=folder)
