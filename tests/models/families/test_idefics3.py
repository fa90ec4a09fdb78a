"""The smaller SmolVLM checkpoints are of type Idefics3: the same tap reads them."""

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForImageTextToText

from velm_train.models.families.build import FamilyParts, assemble_family
from velm_train.models.families.tiny import build_tiny
from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.adapter import LookTwiceSettings


@pytest.fixture(scope="module")
def idefics3():
    smol = build_tiny("smolvlm")
    config = transformers.Idefics3Config(
        vision_config=smol.vlm.config.vision_config.to_dict() | {"model_type": "idefics3_vision"},
        text_config=smol.vlm.config.text_config.to_dict(),
        scale_factor=2,
        image_token_id=smol.processor.tokenizer.image_token_id,
        pad_token_id=smol.processor.tokenizer.pad_token_id,
    )
    processor = transformers.Idefics3Processor(
        image_processor=transformers.Idefics3ImageProcessor(
            size={"longest_edge": 192}, max_image_size={"longest_edge": 64}, do_image_splitting=True
        ),
        tokenizer=smol.processor.tokenizer,
        image_seq_len=16,
        chat_template=smol.processor.tokenizer.chat_template,
    )
    with seeded_init(0, "idefics3"):
        vlm = AutoModelForImageTextToText.from_config(config).eval()
    parts = FamilyParts(family="smolvlm", vlm=vlm, processor=processor, name="tiny_idefics3", weights_identity="tiny")
    return assemble_family(parts, look_twice=LookTwiceSettings(source="off"), lora=None, seed=0)


@pytest.mark.parametrize("size", [(100, 150), (150, 60), (64, 64), (31, 200), (311, 87)])
def test_ids_and_logits_are_those_of_the_bare_model(
    idefics3, make_prompts, bare_inputs, logits_of_batch, pictures, size
):
    views = pictures([size])
    inputs = bare_inputs(idefics3, views, text="The part: is it cut?")
    batch = make_prompts(idefics3, [views])
    assert batch.input_ids.tolist() == inputs.input_ids.tolist()
    with torch.no_grad():
        bare = idefics3.language_model(**inputs).logits
    assert torch.equal(logits_of_batch(idefics3, batch), bare)


def test_the_last_tile_is_the_whole_view(idefics3):
    evidence = idefics3.encode_views([np.zeros((60, 90, 3), dtype=np.uint8)])
    assert evidence.is_global.tolist() == [False] * 6 + [True]
