"""Tiny models of every family, built once, and batches of prompts with pictures."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import pytest
import torch

from velm_train.core.batch import IGNORE_INDEX, Batch
from velm_train.models.families.build import FamilyName, FamilyParts, assemble_family
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.families.tiny import build_tiny
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings

FAMILIES = get_args(FamilyName)
OFF = LookTwiceSettings(source="off")
LEARNED = LookTwiceSettings(source="learned", dim=16)


@pytest.fixture(params=FAMILIES)
def family(request: Any) -> FamilyName:
    return request.param


@pytest.fixture
def tiny() -> Callable[..., FamilyParts]:
    return build_tiny


@pytest.fixture(scope="session")
def make_family() -> Callable[..., HFVisionLanguageModel]:
    """Builds a model; models without LoRA are shared between tests and must not be changed."""
    known: dict[Any, HFVisionLanguageModel] = {}

    def make(
        family: FamilyName,
        *,
        look_twice: LookTwiceSettings = OFF,
        lora: LoraSettings | None = None,
        tile_views: bool = True,
        train_projector: bool = False,
    ) -> HFVisionLanguageModel:
        key = (family, look_twice, tile_views)
        if lora is not None or train_projector or key not in known:
            model = assemble_family(
                build_tiny(family),
                look_twice=look_twice,
                lora=lora,
                seed=0,
                tile_views=tile_views,
                train_projector=train_projector,
            )
            if lora is not None or train_projector:
                return model
            known[key] = model
        return known[key]

    return make


@pytest.fixture(scope="session")
def pictures() -> Callable[..., list[np.ndarray]]:
    def make(sizes: Sequence[tuple[int, int]], *, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]

    return make


@pytest.fixture(scope="session")
def make_prompts() -> Callable[..., Batch]:
    """Rows "<view> ... <view> Is it cut?" of unequal length; `answer` last tokens are supervised."""

    def make(
        model: HFVisionLanguageModel,
        rows: Sequence[Sequence[np.ndarray]],
        *,
        texts: Sequence[str] | None = None,
        answer: int = 0,
        padding: str = "right",
    ) -> Batch:
        words = texts or ["The part: is it cut?"] * len(rows)
        token_rows = []
        for views, text in zip(rows, words, strict=True):
            ids: list[int] = []
            for view in views:
                ids += model.view_token_ids(view.shape[:2])
            token_rows.append(ids + model.writer.tokenizer(text, add_special_tokens=False)["input_ids"])
        longest = max(map(len, token_rows))
        pad = int(model.writer.tokenizer.pad_token_id)
        shape = (len(rows), longest)
        input_ids, mask = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORE_INDEX)
        for number, ids in enumerate(token_rows):
            place = slice(0, len(ids)) if padding == "right" else slice(longest - len(ids), longest)
            input_ids[number, place] = torch.tensor(ids)
            mask[number, place] = 1
            supervised = slice(place.stop - answer, place.stop)
            labels[number, supervised] = input_ids[number, supervised]
        views = [view for row in rows for view in row]
        return Batch(
            input_ids=input_ids,
            attention_mask=mask,
            labels=labels,
            evidence=model.encode_views(views),
            view_sample=torch.tensor([number for number, row in enumerate(rows) for _ in row]),
            view_anomalous=torch.zeros(len(views)),
            sample_ids=tuple(f"row{number}" for number in range(len(rows))),
        )

    return make


@pytest.fixture(scope="session")
def logits_of_batch() -> Callable[[HFVisionLanguageModel, Batch], torch.Tensor]:
    """Returns the logits of every position of a right-padded batch."""

    def compute(model: HFVisionLanguageModel, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            inputs, _ = model.read(batch)
            return model._vlm.get_output_embeddings()(model.hidden(inputs))

    return compute


@pytest.fixture(scope="session")
def bare_inputs() -> Callable[..., Any]:
    """What the family's own processor makes of one prompt with its pictures."""

    def make(model: HFVisionLanguageModel, views: Sequence[np.ndarray], *, text: str) -> Any:
        processor = model.writer.processor
        marker = model.writer.image_token
        if model._tap.family.startswith("qwen"):
            marker = f"<|vision_start|>{marker}<|vision_end|>"
        return processor(text=[marker * len(views) + text], images=[list(views)], return_tensors="pt")

    return make
