"""The first training stage: projector and adapter learn the words of the closed list."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from velm_train.cli.build_engine import make_engine
from velm_train.cli.build_model import alignment_optimisation
from velm_train.cli.checkpoints import clear_checkpoints, keeping_of
from velm_train.cli.instruct import Material
from velm_train.cli.prepare import Prepared
from velm_train.cli.workshop import Workshop
from velm_train.collation.collate import view_anomalous_by_answer
from velm_train.collation.render import PromptRenderer
from velm_train.core.artifacts import StageKey
from velm_train.core.pruning import PruneRule
from velm_train.models.build import BuiltModel
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.pipeline.features import FeatureReader, ground_truth_of
from velm_train.training.alignment import AlignmentLoss, Vocabulary, make_vocabulary
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.fit import AlignmentParts, RunOutput, fit_alignment
from velm_train.training.loggers import Logger
from velm_train.training.losses import balanced_pos_weight
from velm_train.training.sources import AlignmentItem, alignment_facts, alignment_items, collate_alignment
from velm_train.training.starting import Keeping, Start

ALIGNMENT_VERSION = 1
_ALIGNED_NAME = "aligned.safetensors"


def _vocabulary(prepared: Prepared, *, model: EmbeddedVLM, renderer: PromptRenderer) -> Vocabulary:
    names = [kind.display_name for one in prepared.taught.categories.values() for kind in one.defect_types.values()]

    def tokenize(text: str) -> list[int]:
        ids: list[int] = renderer.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    return make_vocabulary(names, tokenize=tokenize, embedding=model.language_model.get_input_embeddings())


def align(
    shop: Workshop,
    prepared: Prepared,
    material: Material,
    *,
    model: BuiltModel,
    renderer: PromptRenderer,
    features: FeatureReader,
) -> str:
    """Trains and loads projector and adapter; returns the artefact's key, or "none" if the stage is skipped.

    The projector of every other family comes with the checkpoint and knows the words already.
    """
    config = shop.config
    if config.alignment.max_steps == 0:
        return "none"
    if not isinstance(model, EmbeddedVLM):
        shop.progress.note("alignment is left out: only the embedded model's projector starts from nothing")
        return "none"
    vocabulary = _vocabulary(prepared, model=model, renderer=renderer)
    key = StageKey(
        stage="alignment",
        version=ALIGNMENT_VERSION,
        inputs={"material": material.identity, "model": model.identity, "words": list(vocabulary.words)}
        | ground_truth_of(features),
        settings={
            "alignment": asdict(config.alignment),
            "optimisation": alignment_optimisation(config),
            "look_twice": asdict(config.look_twice),
            "seed": config.seed,
        },
    )

    def build(folder: Path) -> None:
        items = alignment_items(
            material.samples,
            categories=prepared.taught.categories,
            vocabulary=vocabulary,
            view_anomalous=view_anomalous_by_answer,
        )
        start: Start = "none" if config.ckpt_path == "none" else "auto"
        keeping = keeping_of(shop, key, start=start, validated=False)
        output = run_output(shop, folder, title="align tokens with words", loggers=(), keeping=keeping)
        _fit(shop, items, model=model, vocabulary=vocabulary, features=features, output=output)
        save_file(_alignable(model), folder / _ALIGNED_NAME)
        clear_checkpoints(shop, folder)

    # One process trains it, on one device: it takes seconds, and all have the features at hand.
    folder = Path(shop.meeting.agree("alignment", lambda: str(shop.store.get_or_build(key, build, title="alignment"))))
    _load_alignable(model, load_file(folder / _ALIGNED_NAME))
    return key.key


def _fit(
    shop: Workshop,
    items: Sequence[AlignmentItem],
    *,
    model: EmbeddedVLM,
    vocabulary: Vocabulary,
    features: FeatureReader,
    output: RunOutput,
) -> None:
    config = shop.config
    labels = [item.anomalous for item in items]
    rows, columns = model.token_grid_hw
    fit_alignment(
        AlignmentParts(projector=model.projector, look_twice=model.look_twice, vocabulary=vocabulary),
        SampleDataModule(
            alignment_facts(items, num_tokens=rows * columns),
            collate=lambda indices, _: collate_alignment([items[i] for i in indices], features=features),
            batch_size=config.alignment.batch_size,
            balance="type",
            seed=config.seed,
        ),
        weights=AlignmentLoss(
            temperature=config.alignment.temperature,
            second_look_weight=config.alignment.second_look_weight,
            bce_weight=config.alignment.bce_weight,
            pos_weight=balanced_pos_weight(labels.count(0.0), labels.count(1.0)),
        ),
        optimisation=alignment_optimisation(config),
        engine=make_engine(config, rank=shop.rank),
        output=output,
    )


def _parts(model: EmbeddedVLM) -> dict[str, torch.nn.Module]:
    parts: dict[str, torch.nn.Module] = {"projector": model.projector}
    return parts if model.look_twice is None else parts | {"look_twice": model.look_twice}


def _alignable(model: EmbeddedVLM) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": tensor.detach().contiguous()
        for part, module in _parts(model).items()
        for name, tensor in module.state_dict().items()
    }


def _load_alignable(model: EmbeddedVLM, tensors: dict[str, torch.Tensor]) -> None:
    for part, module in _parts(model).items():
        prefix = f"{part}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})


def run_output(
    shop: Workshop,
    folder: Path,
    *,
    title: str,
    loggers: Sequence[Logger],
    keeping: Keeping,
    prune: PruneRule | None = None,
) -> RunOutput:
    """Returns where a training stage reports to."""
    return RunOutput(
        folder=folder,
        checkpoint_every=shop.config.callbacks.checkpoint_every,
        log_every=shop.config.callbacks.log_every,
        loggers=loggers,
        progress=shop.progress,
        title=title,
        keeping=keeping,
        prune=prune,
    )
