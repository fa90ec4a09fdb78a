"""How long training pauses for a checkpoint of the embedded model, and how large it is.

    python experiments/benchmarks/checkpoints.py [SAVES] [FOLDER]

Everything that learns is there in its real size, with the optimiser's states; the steps between the saves do nothing.
The plain row is the same content written by torch.save alone, without waiting for the disk, marker or hash.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import velm_train  # noqa: F401 - must come before Lightning: see velm_train/core/torchvision_shim.py

# isort: split
import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.table import Table

from velm_train.cli.build_data import make_assets
from velm_train.cli.build_model import adapter_optimisation, make_model
from velm_train.cli.compose import load_config
from velm_train.core.batch import Batch
from velm_train.core.progress import SilentProgress
from velm_train.models.build import quiet_transformers
from velm_train.training.batches import WindowedBatch
from velm_train.training.callbacks import LossHistory
from velm_train.training.checkpoint_files import complete_ones
from velm_train.training.checkpoints import KeepCheckpoints
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.module import InspectionModule
from velm_train.training.quiet import quiet_lightning
from velm_train.training.samplers import SampleFacts
from velm_train.training.starting import Keeping
from velm_train.training.stopping import StopRequest
from velm_train.training.throughput import ThroughputMonitor


class NoBatch(Batch):
    """Stands for a batch that nothing reads."""

    def __init__(self) -> None:
        """Holds nothing."""

    def to(self, device: torch.device) -> "NoBatch":
        """Returns itself."""
        del device
        return self


class IdleModule(InspectionModule):
    """The real module, whose steps cost nothing and move every weight that learns."""

    def training_step(self, windowed: WindowedBatch, batch_idx: int) -> dict[str, torch.Tensor]:
        """Returns a loss that reaches every weight."""
        del windowed, batch_idx
        loss = torch.stack([p.float().mean() for p in self.parameters() if p.requires_grad]).sum()
        return {"loss": loss, "total": loss.detach()}


class TimedCheckpoints(KeepCheckpoints):
    """Notes how long each save takes, and how long the plain one."""

    pauses: list[float]
    plain: list[float]

    def save(self, trainer: pl.Trainer) -> None:
        """Saves both ways."""
        before = time.perf_counter()
        super().save(trainer)
        between = time.perf_counter()
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        torch.save(content, self._folder.parent / "plain.ckpt")
        self.pauses.append(between - before)
        self.plain.append(time.perf_counter() - between)


def main(num_saves: int, folder: Path) -> None:
    """Prints one row for each way."""
    quiet_transformers()
    config = load_config([])
    torch.set_num_threads(config.threads)
    model = make_model(config, assets=make_assets(config, progress=SilentProgress()))
    history = LossHistory(folder, throughput=(throughput := ThroughputMonitor()), log_every=1)
    checkpoints = TimedCheckpoints(
        folder / "checkpoints",
        every_n_steps=1,
        keeping=Keeping(last=config.callbacks.keep_last),
        stop=(stop := StopRequest()),
        history=history,
        validation=None,
    )
    checkpoints.pauses, checkpoints.plain = [], []
    fact = SampleFacts(
        sample_id="none",
        answer_type="",
        category="",
        false_alarm=False,
        num_tokens=1,
        num_supervised=1,
        num_scored_views=0,
    )
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=num_saves,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[stop, throughput, history, checkpoints],
            default_root_dir=folder,
        )
        trainer.fit(
            IdleModule(model, optimisation=adapter_optimisation(config), bce_weight=0.0, pos_weight=1.0),
            datamodule=SampleDataModule([fact], collate=lambda *_: NoBatch(), batch_size=1, seed=0),
        )
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    table = Table(title=f"{learning:,} weights learn; {num_saves} saves each", title_justify="left")
    for name in ("way", "bytes", "median s", "longest s", "MB/s"):
        table.add_column(name, justify="left" if name == "way" else "right")
    sizes = (complete_ones(folder / "checkpoints")[0].path.stat().st_size, (folder / "plain.ckpt").stat().st_size)
    for name, size, seconds in (("checkpoint", sizes[0], checkpoints.pauses), ("plain", sizes[1], checkpoints.plain)):
        middle = statistics.median(seconds)
        table.add_row(name, f"{size:,}", f"{middle:.3f}", f"{max(seconds):.3f}", f"{size / middle / 1e6:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    saves = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    if len(sys.argv) > 2:
        main(saves, Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(saves, Path(scratch))
