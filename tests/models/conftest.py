"""Small stand-ins with the real interfaces: towers, a random Llama, evidence and batches."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from velm_train.backbones.protocol import LayerInfo
from velm_train.core.batch import IGNORE_INDEX, Batch, VisionEvidence
from velm_train.models.build import assemble_embedded
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.embedded.vision import Towers, TwoTowers, VisionSettings
from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings

VOCAB_SIZE = 64
STOP_ID = 2


class PooledColours:
    """A backbone whose features are fixed random mixtures of each cell's mean colour."""

    def __init__(self, layers: Mapping[str, LayerInfo], *, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.identity = f"pooled-colours-{seed}"
        self.layers = layers
        self._mixing = {name: torch.randn(info.channels, 3, generator=generator) for name, info in layers.items()}

    def features(self, images: torch.Tensor, *, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        return {
            name: torch.einsum("cd,bdhw->bchw", self._mixing[name], F.avg_pool2d(images, self.layers[name].stride))
            for name in layers
        }


CNN_LAYERS = {"stride8": LayerInfo(channels=40, stride=8), "stride16": LayerInfo(channels=112, stride=16)}
CNN_LAYERS |= {"stride32": LayerInfo(channels=320, stride=32)}
VIT_LAYERS = {name: LayerInfo(channels=384, stride=14) for name in ("block3", "block6", "block9", "block12", "final")}


@pytest.fixture(scope="session")
def tiny_towers() -> Callable[..., TwoTowers]:
    def make(settings: VisionSettings | None = None, *, weights_identity: str = "pooled") -> TwoTowers:
        return TwoTowers(
            load=lambda device: Towers(cnn=PooledColours(CNN_LAYERS, seed=1), vit=PooledColours(VIT_LAYERS, seed=2)),
            weights_identity=weights_identity,
            settings=settings or VisionSettings(cnn_px=128, vit_px=112, first_look_grid=2, level_layers=("block3",)),
        )

    return make


@pytest.fixture(scope="session")
def tiny_language_model() -> Callable[..., LlamaForCausalLM]:
    def make(*, hidden_size: int = 32, intermediate_size: int = 48) -> LlamaForCausalLM:
        config = LlamaConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            pad_token_id=STOP_ID,
            eos_token_id=STOP_ID,
            initializer_range=0.3,
        )
        with seeded_init(7, "tiny language model"):
            return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture(scope="session")
def make_model(tiny_towers, tiny_language_model) -> Callable[..., EmbeddedVLM]:
    def make(
        *,
        look_twice: LookTwiceSettings | None = None,
        lora: LoraSettings | None = None,
        seed: int = 0,
        weights_identity: str = "pooled",
    ) -> EmbeddedVLM:
        return assemble_embedded(
            towers=tiny_towers(weights_identity=weights_identity),
            language_model=tiny_language_model(),
            language_model_name="tiny_llama",
            language_model_identity="tiny",
            look_twice=look_twice or LookTwiceSettings(source="fused", dim=16),
            lora=lora or LoraSettings(r=4, alpha=8.0),
            seed=seed,
        )

    return make


@pytest.fixture(scope="session")
def trained() -> Callable[[EmbeddedVLM], EmbeddedVLM]:
    """Moves every trainable parameter, so that LoRA and zero-started layers do something."""

    def move(model: EmbeddedVLM) -> EmbeddedVLM:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameters in model.trainable_groups().values():
                for parameter in parameters:
                    parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        return model

    return move


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """Rows of unequal length, one view each, padded on the right; the last `answer` tokens are supervised."""

    def make(model: EmbeddedVLM, *, text_lengths: Sequence[int] = (9, 5, 12), answer: int = 0, seed: int = 0) -> Batch:
        rngs = [np.random.default_rng((seed, row)) for row in range(len(text_lengths))]
        views = [rng.integers(0, 256, (40 + row, 50, 3), dtype=np.uint8) for row, rng in enumerate(rngs)]
        visual = [model.image_token_id] * model.num_first_look + [model.inspect_token_id] * model.num_second_look
        rows = [
            [1, *visual, *rng.integers(3, VOCAB_SIZE, size).tolist()]
            for size, rng in zip(text_lengths, rngs, strict=True)
        ]
        longest = max(map(len, rows))
        input_ids = torch.tensor([row + [STOP_ID] * (longest - len(row)) for row in rows])
        attention_mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        labels = torch.full_like(input_ids, IGNORE_INDEX)
        for number, row in enumerate(rows):
            labels[number, len(row) - answer : len(row)] = input_ids[number, len(row) - answer : len(row)]
        return Batch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            evidence=model.encode_views(views),
            view_sample=torch.arange(len(rows)),
            view_anomalous=torch.tensor([float(row % 2) for row in range(len(rows))]),
            sample_ids=tuple(f"row{row}" for row in range(len(rows))),
        )

    return make


@pytest.fixture(scope="session")
def make_evidence() -> Callable[..., VisionEvidence]:
    """Ragged tiles: view 0 has a 2 x 3 crop of its upper right and then its 3 x 4 whole, view 1 a 4 x 3 whole alone."""

    def make(*, num_tokens: int = 12, seed: int = 0) -> VisionEvidence:
        generator = torch.Generator().manual_seed(seed)
        grid_hw = torch.tensor([[2, 3], [3, 4], [4, 3]])
        on_grid = torch.arange(num_tokens) < grid_hw.prod(dim=1, keepdim=True)
        valid = on_grid.clone()
        valid[2, 0] = False

        def noise(*shape: int) -> torch.Tensor:
            values = torch.randn(*shape[:-2], 12, shape[-1], generator=generator)
            return F.pad(values, (0, 0, 0, num_tokens - 12), value=99.0)

        return VisionEvidence(
            final=noise(3, num_tokens, 20),
            levels=noise(2, 3, num_tokens, 8),
            grid_hw=grid_hw,
            view_index=torch.tensor([0, 0, 1]),
            is_global=torch.tensor([False, True, True]),
            valid=valid,
            map_scores=F.pad(torch.rand(3, 12, generator=generator) * 2, (0, num_tokens - 12), value=99.0),
            tile_xyxy=torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]),
        )

    return make
