"""A scene and a model in; the same work done by TRL's SFTTrainer or a plain Lightning loop, and every loss, out.

What is equal: weights, LoRA, tokens and their order, precision, optimiser, rates, clipping, threads. What is not is
what is compared: both read and resize a picture at every visit, run the tower on it, and pad. TRL applies its output
layer to supervised positions alone (its fused head), the plain loop to all. TRL 1.16 refuses packing and padding-free
batches for data with pictures, so both are off; checkpointing, on by default, costs time and is off unless asked for.
"""

import velm_train  # noqa: F401  # isort: skip - it mends torchvision, which the imports below need

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from peft import PeftModel
from PIL import Image
from scene import GRADIENT_CLIP, LEARNING_RATE, Scene, question_of
from torch.utils.data import DataLoader
from transformers import BatchFeature, PrinterCallback, ProcessorMixin

from velm_train.core.batch import IGNORE_INDEX
from velm_train.core.records import InstructionSample

ANSWER_BEGINS = "<|im_start|>assistant\n"


def train_with_trl(
    vlm: PeftModel, processor: ProcessorMixin, scene: Scene, *, folder: Path, checkpointing: bool = False
) -> list[float]:
    """Trains with SFTTrainer and returns the loss of every step.

    Args:
        vlm: trained in place.
        processor: with the chat template of all systems.
        scene: what is learned.
        folder: for what the trainer writes.
        checkpointing: TRL's default is True.
    """
    from trl.trainer.sft_config import SFTConfig  # noqa: PLC0415 - of the extra `bench`
    from trl.trainer.sft_trainer import SFTTrainer  # noqa: PLC0415

    losses: list[float] = []

    class Noting(SFTTrainer):
        """Notes every loss before the trainer rounds it."""

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the trainer hands over
            loss = super().compute_loss(*args, **kwargs)  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            return loss

    settings = SFTConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=scene.batch_size,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        weight_decay=0.0,
        max_grad_norm=GRADIENT_CLIP,
        train_sampling_strategy="sequential",
        max_length=None,
        assistant_only_loss=True,
        gradient_checkpointing=checkpointing,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Noting(model=vlm, args=settings, train_dataset=chats_of(scene), processing_class=processor)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return losses


def chats_of(scene: Scene) -> Any:  # noqa: ANN401 - a datasets.Dataset, which has no types
    """Returns the visits as TRL documents data with pictures: messages, and files that are opened when asked for."""
    from datasets import Dataset, Features, List, Value  # noqa: PLC0415 - needed here alone
    from datasets import Image as Picture  # noqa: PLC0415

    visited = [scene.samples[number] for number in scene.visits]
    turn = {"role": Value("string"), "content": Value("string")}
    return Dataset.from_dict(
        {
            "messages": [
                [{"role": "user", "content": question_of(one)}, {"role": "assistant", "content": one.target}]
                for one in visited
            ],
            "images": [[str(one.views[0].image_path)] for one in visited],
        },
        features=Features({"messages": List(turn), "images": List(Picture())}),
    )


def trl_collator(processor: ProcessorMixin) -> Callable[[Sequence[Mapping[str, Any]]], Mapping[str, torch.Tensor]]:
    """Returns what SFTTrainer makes batches with."""
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling  # noqa: PLC0415 - of the extra `bench`

    collator: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, torch.Tensor]]
    collator = DataCollatorForVisionLanguageModeling(processor, assistant_only_loss=True)
    return collator


class PlainCollator:
    """Turns samples into what the model's own forward takes, as examples of transformers do."""

    def __init__(self, processor: ProcessorMixin) -> None:
        """Remembers how an answer begins."""
        self._processor = processor
        self._answer_begins = processor.tokenizer(ANSWER_BEGINS, add_special_tokens=False)["input_ids"]

    def __call__(self, samples: Sequence[InstructionSample]) -> BatchFeature:
        """Returns a padded batch with labels."""
        texts = [self._processor.apply_chat_template(_turns(one), tokenize=False) for one in samples]
        pictures = [[Image.open(one.views[0].image_path).convert("RGB")] for one in samples]
        batch = self._processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        labels = batch["input_ids"].clone()
        labels[batch["attention_mask"] == 0] = IGNORE_INDEX
        for row, ids in zip(labels, batch["input_ids"].tolist(), strict=True):
            row[: _behind(ids, self._answer_begins)] = IGNORE_INDEX
        batch["labels"] = labels
        return batch


class PlainModule(pl.LightningModule):
    """The loss that the model itself gives, and AdamW."""

    def __init__(self, vlm: PeftModel) -> None:
        """Takes the model as it is."""
        super().__init__()
        self.vlm = vlm
        self.losses: list[float] = []

    def training_step(self, batch: BatchFeature, batch_idx: int) -> torch.Tensor:
        """Returns the loss, and notes it."""
        del batch_idx
        loss: torch.Tensor = self.vlm(**batch).loss
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns AdamW over what learns."""
        return make_adamw(self)


def train_plainly(vlm: PeftModel, processor: ProcessorMixin, scene: Scene, *, folder: Path) -> list[float]:
    """Trains with a plain Lightning loop and returns the loss of every step; arguments as for TRL."""
    module = PlainModule(vlm)
    visited = [scene.samples[number] for number in scene.visits]
    collate = PlainCollator(processor)
    loader: DataLoader[Any] = DataLoader(cast("Any", visited), batch_size=scene.batch_size, collate_fn=collate)
    fit_plainly(module, loader, folder=folder)
    return module.losses


def make_adamw(module: torch.nn.Module) -> torch.optim.Optimizer:
    """Returns AdamW over what learns in a module."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(learning, lr=LEARNING_RATE, weight_decay=0.0)


def fit_plainly(module: pl.LightningModule, loader: DataLoader[Any], *, folder: Path) -> None:
    """Runs Lightning over a loader once, without anything around it."""
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        gradient_clip_val=GRADIENT_CLIP,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, loader)


def _turns(sample: InstructionSample) -> list[dict[str, Any]]:
    question = [{"type": "image"}, {"type": "text", "text": question_of(sample)}]
    answer = [{"type": "text", "text": sample.target}]
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _behind(ids: Sequence[int], part: Sequence[int]) -> int:
    """Returns the place behind the last occurrence of a part."""
    return max(start for start in range(len(ids)) if list(ids[start : start + len(part)]) == list(part)) + len(part)
