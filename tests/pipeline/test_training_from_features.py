"""Training from stored features opens no picture, and its losses are those of training that encodes every view anew."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from velm_train.collation.collate import stack_views
from velm_train.core.appearance import AS_IT_IS, Appearance
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.batch import IGNORE_INDEX, Batch
from velm_train.core.progress import SilentProgress
from velm_train.core.records import View
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.pipeline.augmentation import shown_view
from velm_train.pipeline.cache_choice import FeatureCache
from velm_train.pipeline.features import FeatureReader, build_features
from velm_train.pipeline.live_features import ViewEncoder
from velm_train.pipeline.views import MapSource
from velm_train.training.datamodule import SampleDataModule
from velm_train.training.fit import Engine, RunOutput, fit_adapter
from velm_train.training.optimiser import Optimisation
from velm_train.training.samplers import SampleFacts

NUM_EPOCHS = 2
Losses = tuple[float, ...]
OutputIn = Callable[[Path], RunOutput]


@pytest.fixture
def copies(query: View, tmp_path: Path) -> list[View]:
    """Six parts of a picture that a test may delete."""
    path = tmp_path / "copy.png"
    path.write_bytes(query.image_path.read_bytes())
    boxes = [(x, y, x + 40, y + 30) for x in (0, 25, 50) for y in (0, 40)]
    return [dataclasses.replace(query, image_path=path, box_xyxy=box) for box in boxes]


@pytest.fixture
def output_in() -> OutputIn:
    def make(folder: Path) -> RunOutput:
        return RunOutput(
            folder=folder, checkpoint_every=100, log_every=1, loggers=[], progress=SilentProgress(), title="tune"
        )

    return make


def batch_of(model: EmbeddedVLM, reader: FeatureReader, chosen: list[tuple[int, View]]) -> Batch:
    """One answer of two tokens for each view."""
    visual = list(model.view_token_ids((1, 1)))
    look_up = reader.ahead([view for _, view in chosen])
    ids = torch.tensor([[1, *visual, 5, 6, 7 + i, 3] for i, _ in chosen])
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[:, -2:] = ids[:, -2:]
    return Batch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=labels,
        evidence=stack_views([look_up(view) for _, view in chosen]),
        view_sample=torch.arange(len(ids)),
        view_anomalous=torch.full((len(ids),), torch.nan),
        sample_ids=tuple(str(i) for i, _ in chosen),
    )


def module_of(model: EmbeddedVLM, reader: FeatureReader, views: list[View], *, batch_size: int) -> SampleDataModule:
    num_tokens = len(model.view_token_ids((1, 1))) + 5
    facts = [
        SampleFacts(
            sample_id=str(i),
            answer_type="cut",
            category="felt",
            false_alarm=False,
            num_tokens=num_tokens,
            num_supervised=2,
            num_scored_views=0,
        )
        for i in range(len(views))
    ]
    return SampleDataModule(
        facts,
        collate=lambda indices, _: batch_of(model, reader, [(i, views[i]) for i in indices]),
        batch_size=batch_size,
        seed=0,
    )


Train = Callable[..., Losses]


@pytest.fixture
def train(new_model, copies: list[View], sources: dict[str, MapSource], output_in: OutputIn, tmp_path: Path) -> Train:
    """Returns a function that tunes a fresh model for two epochs on the six views and gives its losses."""

    def run(
        cache: FeatureCache,
        *,
        name: str,
        batch_size: int = 2,
        encoded_together: int = 2,
        after_encoding: Callable[[], None] = lambda: None,
        appearance: Appearance = AS_IT_IS,
    ) -> Losses:
        model = new_model()
        reader = build_features(
            store=ArtifactStore(tmp_path / "store", progress=SilentProgress()),
            views={"felt, training": copies},
            encoder=ViewEncoder(tower=model, map_sources=sources, contour_width_px=2, batch_size=encoded_together),
            cache=cache,
            progress=SilentProgress(),
            any_view=appearance != AS_IT_IS,
        )
        after_encoding()
        views = [shown_view(view, appearance, size_hw=(72, 96)) for view in copies]
        steps = NUM_EPOCHS * len(views) // batch_size
        summary = fit_adapter(
            model,
            module_of(model, reader, views, batch_size=batch_size),
            optimisation=Optimisation(max_steps=steps, learning_rates={"lora": 1e-2, "projector": 1e-3}),
            engine=Engine(accelerator="cpu"),
            output=output_in(tmp_path / name),
        )
        return summary.losses

    return run


def test_two_epochs_from_stored_features_read_no_image(train: Train, copies: list[View]) -> None:
    stored = train("on", name="first")
    reused = train("auto", name="second", after_encoding=copies[0].image_path.unlink)
    assert reused == stored
    assert len(stored) == 6


def test_losses_with_and_without_the_cache_are_bit_equal_if_views_are_encoded_one_by_one(train: Train) -> None:
    stored = train("on", name="on", batch_size=1, encoded_together=1)
    assert train("off", name="off", batch_size=1, encoded_together=1) == stored
    assert len(set(stored)) == 12


def test_losses_are_equal_to_rounding_however_views_are_encoded(train: Train) -> None:
    """Beside other views, products of the tower round otherwise, and float16 on disk rounds what is left."""
    stored = train("on", name="on")
    assert train("off", name="off") == pytest.approx(stored, rel=1e-4)


def test_pictures_shown_otherwise_are_other_pictures(train: Train) -> None:
    plain, turned = (train("auto", name=str(way), appearance=way) for way in (AS_IT_IS, Appearance(quarter_turns=1)))
    assert plain[0] != turned[0]
