"""The real embedded model: real weights through the same code path."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from velm_train.core.batch import IGNORE_INDEX, Batch
from velm_train.models.build import asset_identity, build_embedded, embedded_towers
from velm_train.models.embedded.vision import VisionSettings
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings


def test_real_towers_give_one_grid_and_are_loaded_late(assets):
    towers = embedded_towers(assets=assets, settings=VisionSettings())
    assert not towers.loaded
    rng = np.random.default_rng(0)
    views = [rng.integers(0, 256, (70, 120, 3), dtype=np.uint8) for _ in range(2)]
    evidence = towers.encode(views, device=torch.device("cpu"))
    assert evidence.final.shape == (2, 36, 1792)
    assert evidence.levels.shape == (4, 2, 36, 384)
    assert evidence.final.isfinite().all()


def test_asset_identities_differ_and_repeat(assets):
    identity = asset_identity(assets, "dinov2_small")
    assert identity == asset_identity(assets, "dinov2_small")
    assert identity != asset_identity(assets, "efficientnet_lite0")


@pytest.fixture(scope="module")
def model(assets):
    return build_embedded(
        assets=assets, vision=VisionSettings(), look_twice=LookTwiceSettings(), lora=LoraSettings(), seed=0
    )


@pytest.mark.slow
def test_the_real_model_scores_trains_and_speaks(model):
    rng = np.random.default_rng(0)
    views = [rng.integers(0, 256, (70, 120, 3), dtype=np.uint8) for _ in range(2)]
    visual = [model.image_token_id] * model.num_first_look + [model.inspect_token_id] * model.num_second_look
    assert (model.image_token_id, model.inspect_token_id) == (49152, 49153)
    rows = [[1, *visual, 504, 3575, 282, 4649, 314], [1, *visual, 1780, 314, 2]]
    length = max(map(len, rows))
    input_ids = torch.tensor([row + [2] * (length - len(row)) for row in rows])
    labels = torch.full_like(input_ids, IGNORE_INDEX)
    labels[0, -2:] = input_ids[0, -2:]
    batch = Batch(
        input_ids=input_ids,
        attention_mask=torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows]),
        labels=labels,
        evidence=model.encode_views(views),
        view_sample=torch.arange(2),
        view_anomalous=torch.tensor([1.0, 0.0]),
        sample_ids=("a", "b"),
    )
    scores = model.option_log_likelihoods(batch, options=[[[7042, 2], [260, 1780, 2]], [[7042, 2]]])
    assert [len(row) for row in scores] == [2, 1]
    assert all((row < 0).all() for row in scores)
    output = model.training_output(batch)
    output.language_loss_sum.backward()
    assert output.num_supervised == 2
    assert sum(parameter.numel() for parameter in model.trainable_groups()["lora"]) == 4_884_480
    assert all(len(response) <= 3 for response in model.generate(batch, max_new_tokens=3))


@pytest.mark.slow
def test_fresh_real_lora_equals_the_plain_language_model(model, assets):
    folder = assets.ensure("smollm2_135m_instruct")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    input_ids = torch.tensor([[504, 3575, 282, 4649, 314]])
    with torch.no_grad():
        assert torch.equal(model.language_model(input_ids=input_ids).logits, base(input_ids=input_ids).logits)
