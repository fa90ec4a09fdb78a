"""Gated images without a tokenizer, a model that counts what it is asked, and likelihoods with their closed list."""

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from velm_train.collation.collate import collate
from velm_train.collation.render import EncodedSample
from velm_train.core.batch import IGNORE_INDEX, Batch, VisionEvidence
from velm_train.core.records import GateDecision, InstructionSample, Message, Option, Region, View
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType, Taxonomy
from velm_train.evaluation.gated import GatedImage, Question
from velm_train.evaluation.runner import OptionScorer

TYPES: tuple[str | None, ...] = ("crack", "hole", "good", None)
ANSWERS = {"crack": "fine crack", "hole": "hole", "good": "no defect", None: "none of these"}
TOKEN = {"crack": 11, "hole": 12, "good": 13, None: 14}


def make_options(types: Sequence[str | None]) -> tuple[Option, ...]:
    return tuple(Option(answer=ANSWERS[name], defect_type=name) for name in types)


def make_question(
    image_id: str, *, types: Sequence[str | None], length: int = 5, region_index: int = 0, key: str | None = None
) -> Question:
    view = View(
        kind="query",
        image_id=image_id,
        image_path=Path("a.png"),
        sha256="0" * 64,
        box_xyxy=(0, 0, 8, 6),
        contour=np.zeros((0, 2), dtype=np.int64),
    )
    sample = InstructionSample(
        sample_id=f"{image_id}/{region_index}",
        image_id=image_id,
        category="tile",
        task="name_type",
        views=(view,),
        messages=(Message(role="user", text="<image>?"),),
        target="",
        options=make_options(types),
        provenance={},
    )
    ids = tuple(range(1, length + 1))
    prompt = EncodedSample(input_ids=ids, labels=(IGNORE_INDEX,) * length, sample=sample)
    return Question(
        prompt=prompt,
        option_ids=tuple((TOKEN[name], 2) for name in types),
        region_index=region_index,
        key=key or f"{image_id}/{region_index}/{types}/{length}",
    )


def make_image(
    image_id: str,
    *,
    flagged: bool = True,
    gt: str | None = "crack",
    questions: Sequence[Question] | None = None,
    peaks: Sequence[float] = (2.0,),
    category: str = "tile",
) -> GatedImage:
    asked = (make_question(image_id, types=TYPES),) if questions is None else tuple(questions)
    region = [
        Region(
            image_id=image_id,
            box_xyxy=(i, 0, i + 2, 3),
            contour=np.zeros((0, 2), dtype=np.int64),
            area_px=6,
            peak_score=peak,
            source="detector",
        )
        for i, peak in enumerate(peaks)
    ]
    return GatedImage(
        image_id=image_id,
        category=category,
        group="seen",
        gt_defect_type=gt,
        anomaly_score=1.5,
        decision=GateDecision(
            image_id=image_id, p_value=0.01, alpha=0.05, image_threshold=1.0, pred_label=flagged, policy="detector"
        ),
        regions=tuple(region) if flagged else (),
        questions=asked if flagged else (),
        seconds={"detect": 0.25},
    )


class CountingModel(nn.Module):
    """Likelihood of an option: from a table by its first token, plus 0.1 for each place it stands later."""

    identity = "counting"
    evidence_identity = "counting"
    feature_dtype = torch.float32
    num_second_look = 0
    max_context = 100
    decoder = nn.Module()

    def __init__(self, table: dict[int, float]) -> None:
        super().__init__()
        self.table = table
        self.asked: list[tuple[str, ...]] = []
        self.widths: list[int] = []
        self.pictures: list[np.ndarray] = []

    def option_log_likelihoods(self, batch: Batch, *, options: Sequence[Sequence[Sequence[int]]]) -> list[torch.Tensor]:
        assert not torch.is_grad_enabled()
        assert not self.training
        self.asked.append(batch.sample_ids)
        self.widths.append(batch.input_ids.shape[1])
        return [torch.tensor([self.table[ids[0]] + 0.1 * place for place, ids in enumerate(row)]) for row in options]

    def encode_views(self, views: Sequence[np.ndarray]) -> VisionEvidence:
        self.pictures += list(views)
        return VisionEvidence(
            final=torch.ones(1, 2, 3),
            levels=torch.ones(1, 1, 2, 3),
            grid_hw=torch.tensor([[1, 2]]),
            view_index=torch.zeros(1, dtype=torch.long),
            is_global=torch.ones(1, dtype=torch.bool),
            valid=torch.ones(1, 2, dtype=torch.bool),
            map_scores=torch.zeros(1, 2),
        )

    def evidence_shape(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        del size_hw
        return 1, 2

    def view_token_ids(self, size_hw: tuple[int, int]) -> tuple[int, ...]:
        del size_hw
        return (0,)

    def training_output(self, batch: Batch) -> object:
        del batch
        raise AssertionError("evaluation never trains")

    def merged_for_inference(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def first_look_only(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        return {}

    def save_adapter(self, folder: Path) -> None: ...

    def load_adapter(self, folder: Path) -> None: ...


@pytest.fixture
def question() -> Callable[..., Question]:
    return make_question


@pytest.fixture
def image() -> Callable[..., GatedImage]:
    return make_image


@pytest.fixture
def options() -> Callable[..., tuple[Option, ...]]:
    return make_options


@pytest.fixture
def counting_model() -> CountingModel:
    return CountingModel({11: -1.0, 12: -2.0, 13: -3.0, 14: -4.0})


@pytest.fixture
def scorer_of(one_tile) -> Callable[..., OptionScorer]:
    def make(model: CountingModel, *, batch_size: int = 2) -> OptionScorer:
        features = one_tile(
            np.ones((2, 3), np.float32), np.ones((1, 2, 3), np.float32), np.zeros(2, np.float32), grid_hw=(1, 2)
        )

        def collate_prompts(encoded: Sequence[EncodedSample]) -> Batch:
            return collate(
                encoded,
                features=lambda _: features,
                pad_token_id=0,
                view_anomalous=lambda sample: [float("nan")] * len(sample.views),
                max_tokens=100,
            )

        return OptionScorer(model=model, collate=collate_prompts, batch_size=batch_size, device=torch.device("cpu"))

    return make


def defect_type(name: str) -> DefectType:
    return DefectType(display_name=name, description="", synonyms=())


@pytest.fixture(scope="session")
def wires() -> Taxonomy:
    """One category with two types."""
    types = {"bent_wire": defect_type("bent wire"), "cut": defect_type("cut")}
    return Taxonomy(
        dataset="wires",
        categories={"cable": CategoryTaxonomy(noun="cable", normal_description="", defect_types=types)},
    )


@pytest.fixture(scope="session")
def nats() -> dict[str, float]:
    """Log-likelihoods of its closed list: shares of 3, 1, 5 and 1 in 10."""
    return {"bent wire": math.log(3.0), "cut": 0.0, "no defect": math.log(5.0), "none of these": 0.0}
