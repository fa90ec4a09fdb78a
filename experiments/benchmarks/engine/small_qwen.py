"""Sizes in; Qwen2.5-VL's real classes with random weights, its processor and a chat template for all systems out.

The proportions are those of the 3B checkpoint as far as so small a model can have them: the vision tower has about a
quarter of the decoder's weights, the output layer about a tenth. The vocabulary is then small for the width, which
makes full logits cheaper here than they are there.
"""

import velm_train  # noqa: F401  # isort: skip - it mends torchvision, which the imports below need

from dataclasses import dataclass
from typing import Any

from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

from velm_train.models.families.build import FamilyParts
from velm_train.models.families.identity import tensors_identity
from velm_train.models.families.tiny import build_tiny
from velm_train.models.initialisation import seeded_init

CELL_PX = 28
"""Side of what becomes one visual token."""

HEAD_DIM, TOWER_HEAD_DIM = 64, 32

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'][0]['text'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The stop token is the last token of a sample; TRL finds answer and stop token by the generation block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Sizes of the model; the defaults are those of the comparison.

    Attributes:
        width: of the decoder, a multiple of 128.
        layers: of the decoder.
        tower_width: of the vision tower, a multiple of 32.
        tower_layers: of the vision tower; the last one attends to all of a picture, the others to windows.
        vocabulary: rows of embedding table and output layer.
    """

    width: int = 256
    layers: int = 6
    tower_width: int = 128
    tower_layers: int = 4
    vocabulary: int = 2048


SMALLEST = Sizes(width=128, layers=1, tower_width=32, tower_layers=1, vocabulary=512)
"""For what does not depend on the model: the cost of the engine itself, and tests."""


def make_parts(sizes: Sizes, *, most_tokens: int) -> FamilyParts:
    """Returns the model and its processor; the same sizes give the same weights bit by bit.

    Args:
        sizes: of the model.
        most_tokens: of a picture; larger ones would be shrunk.
    """
    tiny = build_tiny("qwen2_5_vl")
    config = _config(tiny.vlm.config, sizes)
    with seeded_init(0, "benchmark model"):
        vlm = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").eval()
    processor = tiny.processor
    processor.image_processor.size = {"shortest_edge": CELL_PX**2, "longest_edge": most_tokens * CELL_PX**2}
    processor.chat_template = processor.tokenizer.chat_template = CHAT_TEMPLATE
    return FamilyParts(
        family="qwen2_5_vl",
        vlm=vlm,
        processor=processor,
        name="benchmark_qwen2_5_vl",
        weights_identity=tensors_identity(vlm),
    )


def _config(tiny: Qwen2_5_VLConfig, sizes: Sizes) -> Qwen2_5_VLConfig:
    text: dict[str, Any] = {
        "hidden_size": sizes.width,
        "intermediate_size": 11 * sizes.width // 4,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.width // HEAD_DIM,
        "num_key_value_heads": sizes.width // HEAD_DIM // 2,
        "max_position_embeddings": 16_384,
        "vocab_size": sizes.vocabulary,
        "initializer_range": 0.05,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6},
    }
    vision: dict[str, Any] = {
        "depth": sizes.tower_layers,
        "hidden_size": sizes.tower_width,
        "intermediate_size": 11 * sizes.tower_width // 4,
        "num_heads": sizes.tower_width // TOWER_HEAD_DIM,
        "out_hidden_size": sizes.width,
        "patch_size": CELL_PX // 2,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 4 * CELL_PX,
        "fullatt_block_indexes": [sizes.tower_layers - 1],
        "initializer_range": 0.05,
    }
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {name: getattr(tiny, name) for name in names}
    return Qwen2_5_VLConfig(vision_config=vision, text_config=text, **ids)
