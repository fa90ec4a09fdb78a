"""A scene and a choice of levers in; velm_train's own engine trained on it, and the loss of every step, out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from scene import GRADIENT_CLIP, LEARNING_RATE, Scene
from torch.nn import functional as F

from velm_train.collation.bundles import bundle_of
from velm_train.collation.collate import collate, view_anomalous_by_answer
from velm_train.collation.render import EncodedSample, PromptRenderer
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.batch import IGNORE_INDEX, Batch
from velm_train.core.progress import SilentProgress
from velm_train.core.records import Detection, View
from velm_train.gating.gate import CalibratedGate
from velm_train.gating.guarantees import Scheme
from velm_train.models.embedded import embedded
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.families import model as families
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.packing.layout import RowLayout
from velm_train.models.prefix import CausalLanguageModel, logits_of
from velm_train.models.protocol import LookTwiceOutput, TrainingOutput
from velm_train.pipeline.features import FeatureReader, build_features
from velm_train.pipeline.live_features import ViewEncoder
from velm_train.pipeline.views import MapSource
from velm_train.training.bundles import ALONE, shared_prefixes
from velm_train.training.datamodule import Rows, SampleDataModule
from velm_train.training.engine import Engine
from velm_train.training.fit import RunOutput, fit_adapter
from velm_train.training.optimiser import Optimisation
from velm_train.training.orders import epoch_order
from velm_train.training.preflight import Checkpointing, MemorySettings
from velm_train.training.samplers import MicroBatchPlan, SampleFacts
from velm_train.training.sources import facts_of

Model = HFVisionLanguageModel | EmbeddedVLM


@dataclass(frozen=True, kw_only=True, slots=True)
class Levers:
    """What of the engine is on.

    Attributes:
        cache: frozen features stored once and read back; the time to store them counts.
        rows: passes as one row without padding.
        questions_per_image: most samples that share what they begin with; 1 for none, more needs rows.
        supervised_logits: the output layer at supervised positions alone, as the engine always does; False puts
            logits of all positions in its place.
        checkpointing: which blocks compute their activations again.
        compile_blocks: True to compile the decoder's blocks.
    """

    cache: bool = True
    rows: bool = True
    questions_per_image: int = 1
    supervised_logits: bool = True
    checkpointing: Checkpointing = "off"
    compile_blocks: bool = False


ALL_LEVERS = Levers(questions_per_image=4)
NO_LEVERS = Levers(cache=False, rows=False, supervised_logits=False)


def train_own(model: Model, renderer: PromptRenderer, scene: Scene, levers: Levers, *, folder: Path) -> list[float]:
    """Trains a model and returns the loss of every step.

    Args:
        model: trained in place.
        renderer: writes its prompts.
        scene: what is learned.
        levers: of the engine.
        folder: empty; gets features and checkpoint.
    """
    encoded = [renderer.encode(sample) for sample in scene.samples]
    features = build_features(
        store=ArtifactStore(folder / "artifacts", progress=SilentProgress()),
        views={"training": scene.views},
        encoder=ViewEncoder(tower=model, map_sources=_no_maps(scene.views), contour_width_px=1, batch_size=1),
        cache="on" if levers.cache else "off",
        progress=SilentProgress(),
    )
    feed = _feed(encoded, scene, levers, features=features, renderer=renderer)
    with nullcontext() if levers.supervised_logits else full_logits():
        summary = fit_adapter(
            model,
            feed,
            optimisation=Optimisation(
                max_steps=scene.num_steps,
                learning_rates=dict.fromkeys(model.trainable_groups(), LEARNING_RATE),
                warmup_fraction=0.0,
                min_learning_rate_fraction=1.0,
                gradient_clip=GRADIENT_CLIP,
                kind="adamw_fused",
            ),
            engine=Engine(
                accelerator="cpu",
                memory=MemorySettings(checkpointing=levers.checkpointing),
                compile_blocks=levers.compile_blocks,
            ),
            output=RunOutput(
                folder=folder / "run",
                checkpoint_every=scene.num_steps,
                log_every=1,
                loggers=[],
                progress=SilentProgress(),
                title="tune",
            ),
        )
    return list(summary.losses)


def _feed(
    encoded: Sequence[EncodedSample],
    scene: Scene,
    levers: Levers,
    *,
    features: FeatureReader,
    renderer: PromptRenderer,
) -> SampleDataModule:
    listed = _listed(scene)
    facts = _facts(encoded, sharing=levers.questions_per_image > 1, renderer=renderer)

    def batch_of(numbers: Sequence[int], plan: MicroBatchPlan | None = None) -> Batch:
        chosen = [encoded[listed[number]] for number in numbers]
        bundles = None
        if plan is not None:
            ends = accumulate(bundle.num_samples for bundle in plan.bundles)
            bundles = [
                bundle_of(chosen[end - bundle.num_samples : end], num_shared=bundle.num_shared)
                for bundle, end in zip(plan.bundles, ends, strict=True)
            ]
        return collate(
            chosen,
            features=features.ahead([view for one in chosen for view in one.sample.views]),
            pad_token_id=int(renderer.tokenizer.pad_token_id),
            view_anomalous=view_anomalous_by_answer,
            max_tokens=None,
            bundles=bundles,
        )

    rows = Rows(collate=lambda plan: batch_of(plan.samples, plan), questions_per_image=levers.questions_per_image)
    return SampleDataModule(
        [facts[sample] for sample in listed],
        collate=lambda numbers, _: batch_of(numbers),
        batch_size=scene.batch_size,
        seed=0,
        rows=rows if levers.rows else None,
    )


def _listed(scene: Scene) -> list[int]:
    """Returns the visits in an order that the engine's own shuffle turns into that of the scene.

    All epochs of the scene are one epoch of the engine, so that every system takes the same samples at every step.
    """
    order = epoch_order([""] * len(scene.visits), balance="none", seed=0, epoch=0)
    return [scene.visits[place] for place in np.argsort(order)]


def _facts(encoded: Sequence[EncodedSample], *, sharing: bool, renderer: PromptRenderer) -> list[SampleFacts]:
    prefixes = [ALONE] * len(encoded)
    if sharing:
        placeholder_ids = {renderer.image_id, renderer.inspect_id}
        prefixes = shared_prefixes(encoded, placeholder_ids=placeholder_ids, view_labels=view_anomalous_by_answer)
    return [
        replace(facts_of(one, view_anomalous=view_anomalous_by_answer), prefix=prefix)
        for one, prefix in zip(encoded, prefixes, strict=True)
    ]


def _no_maps(views: Sequence[View]) -> dict[str, MapSource]:
    """Returns sources of empty anomaly maps: nothing here looks at them, and the engine pools them all the same."""
    gate = CalibratedGate(
        category="benchmark",
        alpha=0.5,
        policy="off",
        calibration_scores=(0.0,),
        calibration_parts=(0,),
        image_threshold=0.0,
        pixel_threshold=1.0,
        pixel_alpha=0.5,
        scheme=Scheme(kind="leave_one_out", num_folds=0, transductive=False),
        detector_hash="none",
    )
    return {
        view.image_id: MapSource(
            detection=Detection(
                image_id=view.image_id,
                detector_hash="none",
                anomaly_score=0.0,
                anomaly_map=np.zeros((2, 2), dtype=np.float32),
                image_size_hw=view.size_hw,
                out_of_sample=True,
            ),
            gate=gate,
        )
        for view in views
    }


@contextmanager
def full_logits() -> Iterator[None]:
    """Puts a loss over logits of all positions in the place of the engine's own while the block runs."""
    with mock.patch.object(families, "answer_loss", _full_loss), mock.patch.object(embedded, "answer_loss", _full_loss):
        yield


def _full_loss(
    language_model: CausalLanguageModel,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    *,
    layout: RowLayout | None,
    look: LookTwiceOutput | None,
) -> TrainingOutput:
    assert layout is None, "full logits are compared on padded batches, as other engines compute them"
    logits = logits_of(language_model, hidden)[:, :-1]
    targets = labels[:, 1:]
    loss_sum = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    return TrainingOutput(
        language_loss_sum=loss_sum,
        num_supervised=int((targets != IGNORE_INDEX).sum()),
        image_logits=None if look is None else look.image_logits,
    )
