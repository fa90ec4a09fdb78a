"""A model and a datamodule go in; trained weights in place, a checkpoint, a history and a summary come out."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import Strategy

from velm_train.models.compilation import compiled_blocks
from velm_train.models.decoder_shape import shape_of
from velm_train.models.packing.attention import row_attention
from velm_train.models.protocol import VisionLanguageModel
from velm_train.training.alignment import AlignmentLoss, AlignmentModule, Vocabulary
from velm_train.training.callbacks import HISTORY_NAME, LossHistory, ProgressBridge, SeedEveryBatch
from velm_train.training.checkpoint_files import FOLDER_NAME, Checkpoint
from velm_train.training.checkpoints import KeepCheckpoints
from velm_train.training.cluster import GivenRank
from velm_train.training.confidence import MeasureConfidence
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.divergence import DivergenceReport
from velm_train.training.engine import Engine
from velm_train.training.module import BlockShardedModule, InspectionModule, ZeroModule
from velm_train.training.optimiser import Optimisation, frozen_where_rate_is_zero
from velm_train.training.packing_check import PackingCheck
from velm_train.training.preflight import MemoryWatch
from velm_train.training.pruning import PruneByLoss
from velm_train.training.quiet import quiet_lightning
from velm_train.training.run_output import RunOutput
from velm_train.training.sharded_blocks import AverageReplicated, Gathering
from velm_train.training.starting import choose_start
from velm_train.training.stopping import StopRequest, signals_given_back
from velm_train.training.strategies import SHARDING
from velm_train.training.summary import FitSummary, summarise
from velm_train.training.throughput import BookkeepingEnd, PeakSpeed, ThroughputMonitor
from velm_train.training.validation import HeldOut, MeasureValidation

OnTrained = Callable[[Mapping[str, torch.Tensor]], None]
"""Gets tensors by name."""

__all__ = ["AlignmentParts", "Engine", "FitSummary", "RunOutput", "fit_adapter", "fit_alignment"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentParts:
    """What the alignment stage needs of a model.

    Attributes:
        projector: final features (T, N, Df) -> tokens (T, N, D).
        look_twice: (evidence, tokens) -> LookTwiceOutput, or None.
        vocabulary: words with the language model's input embeddings.
    """

    projector: torch.nn.Module
    look_twice: torch.nn.Module | None
    vocabulary: Vocabulary


def fit_adapter(
    model: VisionLanguageModel,
    datamodule: SampleDataModule,
    *,
    optimisation: Optimisation,
    engine: Engine,
    output: RunOutput,
    bce_weight: float = 0.0,
    pos_weight: float = 1.0,
    mask_weight: float = 0.0,
    held_out: HeldOut | None = None,
    on_trained: OnTrained | None = None,
) -> FitSummary:
    """Tunes LoRA, projector and look-twice adapter, beginning at the checkpoint that `output.keeping` asks for.

    The model is left in eval mode, on the CPU if Lightning moved it there.

    Args:
        model: trained in place; must also be a torch module.
        datamodule: feeds `core.batch.Batch`.
        optimisation: rates by group, decay, schedule, number of steps.
        engine: where to run.
        output: where to report to.
        bce_weight: weight of the adapter's own anomaly score in the loss.
        pos_weight: weight of anomalous views in it.
        mask_weight: weight of the token scores' loss against masks; above 0 the batches must hold `gt_scores`.
        held_out: samples that the loss is measured on now and then; None for none.
        on_trained: called on the first process with what was trained, by its name in the model, if the strategy spreads
            the weights; the model is of no use then.

    Raises:
        DivergedError: if the loss or a gradient is not finite.
        ConfigError: if nothing is left to train.
        ArtifactError: if the checkpoint belongs to another model, other data or other settings.
        ResourceError: if a batch does not fit into memory.
        KeyboardInterrupt: after Ctrl-C or a preemption signal, with a checkpoint written; a rerun continues there.
        TrialPruned: if `output.prune` ends the run.
    """
    with frozen_where_rate_is_zero(model.trainable_groups(), learning_rates=optimisation.learning_rates):
        module = _module_kind(engine)(
            model,
            optimisation=optimisation,
            bce_weight=bce_weight,
            pos_weight=pos_weight,
            mask_weight=mask_weight,
        )
        decoder, note, state_bytes = model.decoder, output.progress.note, optimisation.state_bytes
        watch = MemoryWatch(datamodule, decoder=decoder, settings=engine.memory, state_bytes=state_bytes, note=note)
        with watch.watching(), _computed_as_asked(decoder, engine, datamodule):
            return _fit(
                module,
                datamodule,
                optimisation=optimisation,
                engine=engine,
                output=output,
                throughput=ThroughputMonitor(peak=_peak_speed(engine, decoder)),
                watch=watch,
                held_out=held_out,
                on_trained=on_trained,
            )


@contextlib.contextmanager
def _computed_as_asked(decoder: torch.nn.Module, engine: Engine, datamodule: SampleDataModule) -> Iterator[None]:
    with (
        compiled_blocks(decoder) if engine.compile_blocks else contextlib.nullcontext(),
        row_attention(decoder) if datamodule.in_rows else contextlib.nullcontext(),
    ):
        yield


def _module_kind(engine: Engine) -> type[InspectionModule]:
    if engine.strategy == "fsdp2":
        return BlockShardedModule
    return ZeroModule if engine.strategy.startswith("deepspeed") else InspectionModule


def _peak_speed(engine: Engine, decoder: torch.nn.Module) -> PeakSpeed | None:
    return None if engine.peak_tflops is None else PeakSpeed(tflops=engine.peak_tflops, shape=shape_of(decoder))


def fit_alignment(
    parts: AlignmentParts,
    datamodule: SampleDataModule,
    *,
    weights: AlignmentLoss,
    optimisation: Optimisation,
    engine: Engine,
    output: RunOutput,
) -> FitSummary:
    """Tunes projector and look-twice adapter against the words of the closed list, without the language model.

    Args:
        parts: trained in place.
        datamodule: feeds `alignment.AlignmentBatch`, one forward pass per step.
        weights: of the loss terms.
        optimisation: rates of "projector" and, with an adapter, "look_twice".
        engine: where to run.
        output: where to report to.

    Raises:
        ConfigError, ArtifactError, KeyboardInterrupt: as `fit_adapter`.
    """
    assert datamodule.accumulate == 1, "the class balance of the alignment loss is taken over one batch"
    module = AlignmentModule(
        parts.projector, parts.look_twice, vocabulary=parts.vocabulary, weights=weights, optimisation=optimisation
    )
    with frozen_where_rate_is_zero(module.trainable_groups(), learning_rates=optimisation.learning_rates):
        return _fit(
            module,
            datamodule,
            optimisation=optimisation,
            engine=engine,
            output=output,
            throughput=ThroughputMonitor(),
            watch=None,
            held_out=None,
            on_trained=None,
        )


def _fit(
    module: pl.LightningModule,
    datamodule: SampleDataModule,
    *,
    optimisation: Optimisation,
    engine: Engine,
    output: RunOutput,
    throughput: ThroughputMonitor,
    watch: MemoryWatch | None,
    held_out: HeldOut | None,
    on_trained: OnTrained | None,
) -> FitSummary:
    history = LossHistory(output.folder, throughput=throughput, log_every=output.log_every)
    validation = None if held_out is None else MeasureValidation(held_out, history=history)
    stop = StopRequest()
    checkpoints = KeepCheckpoints(
        output.folder / FOLDER_NAME,
        every_n_steps=output.checkpoint_every,
        keeping=output.keeping,
        stop=stop,
        history=history,
        validation=validation,
    )
    progress = ProgressBridge(output.progress, title=output.title, throughput=throughput)
    strategy = engine.make_strategy()
    callbacks: list[pl.Callback] = [
        stop,
        *([] if watch is None else [watch]),
        *([PackingCheck(datamodule, note=output.progress.note)] if datamodule.in_rows else []),
        *([AverageReplicated()] if engine.strategy == "fsdp2" else []),
        SeedEveryBatch(datamodule.seed),
        throughput,
        history,
        *([] if datamodule.hard is None else [MeasureConfidence(datamodule)]),
        *([] if validation is None else [validation]),
        *_pruning(output, history=history, validation=validation),
        progress,
        checkpoints,
        DivergenceReport(output.folder),
        BookkeepingEnd(throughput),
    ]
    with quiet_lightning():
        trainer = _trainer(
            callbacks,
            strategy=strategy,
            optimisation=optimisation,
            accumulate=datamodule.accumulate,
            engine=engine,
            output=output,
        )
        start = choose_start(output.folder / FOLDER_NAME, output.keeping, max_steps=optimisation.max_steps)
        _run(trainer, module, datamodule, start, stop)
        if on_trained is not None and isinstance(strategy, Gathering) and engine.strategy in SHARDING:
            trained = strategy.gathered()
            if engine.rank.is_first:
                on_trained({name.removeprefix("model."): tensor for name, tensor in trained.items()})
    module.eval()
    # A run that was finished before never starts training.
    first_step = len(history.rows) if progress.first_step is None else progress.first_step
    return summarise(history.rows, first_step=first_step, history_path=output.folder / HISTORY_NAME)


def _trainer(
    callbacks: list[pl.Callback],
    *,
    strategy: Strategy | str,
    optimisation: Optimisation,
    accumulate: int,
    engine: Engine,
    output: RunOutput,
) -> pl.Trainer:
    return pl.Trainer(
        accelerator=engine.accelerator,
        devices=engine.devices,
        num_nodes=engine.num_nodes,
        strategy=strategy,
        plugins=[GivenRank(engine.rank)],
        precision=engine.precision,
        max_steps=optimisation.max_steps,
        max_epochs=-1,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=optimisation.gradient_clip,
        logger=list(output.loggers) or False,
        log_every_n_steps=output.log_every,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=output.folder,
    )


def _pruning(output: RunOutput, *, history: LossHistory, validation: MeasureValidation | None) -> list[PruneByLoss]:
    if output.prune is None:
        return []
    return [PruneByLoss(output.prune, history=history, validation=validation, every=output.log_every)]


def _run(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    datamodule: SampleDataModule,
    start: Checkpoint | None,
    stop: StopRequest,
) -> None:
    """Runs the Trainer; a signal that stopped it is raised again once everything is saved and closed."""
    try:
        with signals_given_back():
            path = None if start is None else start.path
            trainer.fit(module, datamodule=datamodule, ckpt_path=path, weights_only=True)
    except SystemExit as error:  # what Lightning makes of KeyboardInterrupt, and of those that are a kind of it
        raise error.__context__ if isinstance(error.__context__, KeyboardInterrupt) else KeyboardInterrupt from error
    if stop.number is not None:
        signal.raise_signal(stop.number)  # the handler from before: KeyboardInterrupt, Preempted, requeue, exit
        raise KeyboardInterrupt
