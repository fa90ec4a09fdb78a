"""A scene in; the embedded model trained on it by velm_train or by a plain Lightning loop, and every loss, out.

No other system has this model: towers, projector and placeholders are the project's own, and no processor exists for
it elsewhere. The plain loop puts the model's parts together as most people would: pictures are read and run through
both towers in every step, rows are padded, and the output layer sees all positions.
"""

import velm_train  # noqa: F401  # isort: skip - it mends torchvision, which the imports below need

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from peers import fit_plainly, make_adamw
from scene import LORA, Scene
from systems import NO_SECOND_LOOK, OWN, PLAIN, Run, own_run
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from velm_train.assets.library import AssetLibrary
from velm_train.collation.render import PromptRenderer, embedded_renderer
from velm_train.core.batch import IGNORE_INDEX, NO_VIEWS, Batch
from velm_train.core.images import read_rgb
from velm_train.core.records import InstructionSample
from velm_train.core.shapes import RGBImage
from velm_train.models.build import LANGUAGE_MODEL, build_embedded
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.embedded.vision import VisionSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedCase:
    """The embedded model with its real weights, by our engine and by a plain loop.

    Attributes:
        assets: where its weights are, or are fetched to.
        names: of the systems.
        reference: whose speed the others are compared with.
    """

    assets: AssetLibrary
    names: Sequence[str] = (*OWN, PLAIN)
    reference: str = PLAIN

    def prepare(self, name: str, scene: Scene) -> Run:
        """Returns a run of a system with a model of its own."""
        model, renderer = self._model()
        if name in OWN:
            return own_run(model, renderer, scene, OWN[name])

        def run() -> list[float]:
            module = PlainEmbeddedModule(model)
            visited = [scene.samples[number] for number in scene.visits]
            collate = EmbeddedCollator(renderer)
            loader: DataLoader[Any] = DataLoader(cast("Any", visited), batch_size=scene.batch_size, collate_fn=collate)
            with tempfile.TemporaryDirectory() as folder:
                fit_plainly(module, loader, folder=Path(folder))
            return module.losses

        return run

    def lengths(self, scene: Scene) -> list[int]:
        """Returns the tokens of each sample; both systems write prompts in the same way."""
        _, renderer = self._model()
        return [len(renderer.encode(sample).input_ids) for sample in scene.samples]

    def _model(self) -> tuple[EmbeddedVLM, PromptRenderer]:
        model = build_embedded(
            assets=self.assets,
            vision=VisionSettings(level_layers=("block6", "block12")),
            look_twice=NO_SECOND_LOOK,
            lora=LORA,
            seed=0,
        )
        folder = self.assets.ensure(LANGUAGE_MODEL)
        return model, embedded_renderer(folder, num_first_look=model.num_first_look, num_second_look=0)


class PlainBatch:
    """Padded rows and the pictures that they show; a plain class, which Lightning leaves alone."""

    def __init__(self, *, batch: Batch, pictures: Sequence[RGBImage]) -> None:
        """Keeps both."""
        self.batch = batch
        self.pictures = pictures


class EmbeddedCollator:
    """Reads pictures and pads prompts, anew at every visit."""

    def __init__(self, renderer: PromptRenderer) -> None:
        """Remembers what writes prompts."""
        self._renderer = renderer

    def __call__(self, samples: Sequence[InstructionSample]) -> PlainBatch:
        """Returns rows without evidence, and the pictures that it is to be made of."""
        encoded = [self._renderer.encode(sample) for sample in samples]
        ids = [torch.tensor(one.input_ids) for one in encoded]
        pad_id = float(self._renderer.tokenizer.pad_token_id)
        batch = Batch(
            input_ids=pad_sequence(ids, batch_first=True, padding_value=pad_id),
            attention_mask=pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
            labels=pad_sequence(
                [torch.tensor(one.labels) for one in encoded], batch_first=True, padding_value=IGNORE_INDEX
            ),
            evidence=NO_VIEWS,
            view_sample=torch.arange(len(samples)),
            view_anomalous=torch.full((len(samples),), torch.nan),
            sample_ids=tuple(sample.sample_id for sample in samples),
        )
        return PlainBatch(batch=batch, pictures=[read_rgb(sample.views[0].image_path) for sample in samples])


class PlainEmbeddedModule(pl.LightningModule):
    """Towers in every step, and the loss that the language model itself gives."""

    def __init__(self, model: EmbeddedVLM) -> None:
        """Takes the model as it is."""
        super().__init__()
        self.model = model
        self.losses: list[float] = []

    def training_step(self, shown: PlainBatch, batch_idx: int) -> torch.Tensor:
        """Returns the loss, and notes it."""
        del batch_idx
        evidence = self.model.encode_views(shown.pictures)
        # The engine rounds features to the type that they are stored in; tuning from them amplifies any difference.
        final = evidence.final.to(self.model.feature_dtype).float()
        batch = replace(shown.batch, evidence=replace(evidence, final=final))
        embeds, _ = self.model.embed(batch)
        loss: torch.Tensor = self.model.language_model(
            inputs_embeds=embeds, attention_mask=batch.attention_mask, labels=batch.labels
        ).loss
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns AdamW over what learns."""
        return make_adamw(self)
