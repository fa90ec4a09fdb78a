"""The default adapter gives the weights and figures that it gave when the published results were made."""

import hashlib

import pytest
import torch

from velm_train.core.batch import VisionEvidence
from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.adapter import LookTwiceAdapter, LookTwiceSettings

WEIGHTS_SHA256 = "8abee77635b80d75ae0f967a77c0fca7910748b12ee49dd41bfc717093bc5846"
SECOND_LOOK = [
    0.0822291,
    0.0762609,
    0.0001787,
    0.1079249,
    0.1608081,
    0.0658451,
    0.7650114,
    0.5724795,
    -0.1463874,
    0.1883194,
    0.3425604,
    0.1818529,
    0.0374589,
    -0.2579888,
    -0.3162428,
]
IMAGE_LOGITS = [-0.0439594, -0.0484749]
SCORES = [
    0.9996929,
    0.0374938,
    0.301799,
    0.0276299,
    0.2347173,
    0.8795231,
    0.7514733,
    0.2407236,
    0.0002594,
    0.5805632,
    0.5486472,
    0.8177858,
]
GRADIENT_NORM = 4.335306


@pytest.fixture
def adapter() -> LookTwiceAdapter:
    with seeded_init(0, "look_twice"):
        return LookTwiceAdapter(
            settings=LookTwiceSettings(source="fused", dim=16, steepness=8.0), level_dim=8, final_dim=20, num_levels=2
        )


def one_tile_per_view() -> VisionEvidence:
    generator = torch.Generator().manual_seed(0)
    return VisionEvidence(
        final=torch.randn(2, 12, 20, generator=generator),
        levels=torch.randn(2, 2, 12, 8, generator=generator),
        grid_hw=torch.tensor([[3, 4], [4, 3]]),
        view_index=torch.arange(2),
        is_global=torch.ones(2, dtype=torch.bool),
        valid=torch.ones(2, 12, dtype=torch.bool),
        map_scores=2 * torch.rand(2, 12, generator=generator),
    )


def test_the_same_seed_gives_the_weights_that_it_gave(adapter) -> None:
    digest = hashlib.sha256()
    for name, tensor in adapter.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    assert digest.hexdigest() == WEIGHTS_SHA256


def test_the_same_evidence_gives_the_figures_that_it_gave(adapter) -> None:
    """To the last digits that a sum in another order may change; on one machine the bits are the same."""
    projected = torch.arange(2 * 12 * 3).reshape(2, 12, 3).sin().requires_grad_()
    output = adapter(one_tile_per_view(), projected)
    assert output.second_look[1].flatten().tolist() == pytest.approx(SECOND_LOOK, abs=2e-6)
    assert output.image_logits.tolist() == pytest.approx(IMAGE_LOGITS, abs=2e-6)
    assert output.token_scores[0].tolist() == pytest.approx(SCORES, abs=2e-6)
    (output.second_look.square().sum() + output.image_logits.sum()).backward()
    norm = torch.stack([p.grad.norm() for p in adapter.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(GRADIENT_NORM, rel=1e-5)
