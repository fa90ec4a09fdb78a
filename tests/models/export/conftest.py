"""Tiny tuned models of every family, pictures that are not square, and the questions that every form is asked."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from velm_train.core.batch import IGNORE_INDEX, Batch
from velm_train.models.export.parity import Answers
from velm_train.models.families.build import FamilyName, assemble_family
from velm_train.models.families.model import HFVisionLanguageModel
from velm_train.models.families.tiny import build_tiny
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings

SIZES = ((60, 110), (90, 40), (56, 84))
OPTIONS = [[[7], [8, 9], [10, 11, 12]]] * len(SIZES)


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


@pytest.fixture(scope="session")
def tuned_family(trained) -> Callable[..., HFVisionLanguageModel]:
    """Builds a tiny family whose LoRA, projector and adapter have all moved."""

    def make(
        family: FamilyName, *, lora: LoraSettings | None = None, train_projector: bool = False
    ) -> HFVisionLanguageModel:
        model = assemble_family(
            build_tiny(family),
            look_twice=LookTwiceSettings(source="learned", dim=16),
            lora=lora or LoraSettings(r=4, alpha=8.0),
            seed=0,
            train_projector=train_projector,
        )
        return trained(model).eval()

    return make


@pytest.fixture(scope="session")
def ask_family(pictures) -> Callable[[HFVisionLanguageModel], Answers]:
    """Asks about each picture which of three answers is likeliest."""

    def ask(model: HFVisionLanguageModel) -> Answers:
        words = model.writer.tokenizer("The part: is it cut?", add_special_tokens=False)["input_ids"]
        rows = [[*model.view_token_ids(view.shape[:2]), *words] for view in pictures]
        longest = max(map(len, rows))
        pad = int(model.writer.tokenizer.pad_token_id)
        input_ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        batch = Batch(
            input_ids=input_ids,
            attention_mask=torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
            labels=torch.full_like(input_ids, IGNORE_INDEX),
            evidence=model.encode_views(pictures),
            view_sample=torch.arange(len(rows)),
            view_anomalous=torch.zeros(len(rows)),
            sample_ids=tuple(f"row{number}" for number in range(len(rows))),
        )
        return as_answers(model.option_log_likelihoods(batch, options=OPTIONS))

    return ask


@pytest.fixture(scope="session")
def to_answers() -> Callable[..., Answers]:
    return as_answers


def as_answers(scores: list[torch.Tensor]) -> Answers:
    return Answers(
        labels={f"image{row}": str(int(values.argmax())) for row, values in enumerate(scores)},
        log_likelihoods={
            f"image{row}": {str(option): float(value) for option, value in enumerate(values)}
            for row, values in enumerate(scores)
        },
    )
