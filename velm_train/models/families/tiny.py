"""A family's name and a seed in, a small random model of the family's real classes with its own processor out.

Everything is made on the spot: no file is read and nothing is fetched. The tokenizer is a byte-level BPE that has seen
a few sentences and the family's special tokens; sizes are chosen so that several tiles fit a test.
"""

from collections.abc import Callable, Mapping
from typing import Any

import transformers
from transformers import (
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from velm_train.models.families.build import FamilyName, FamilyParts
from velm_train.models.families.identity import tensors_identity
from velm_train.models.families.tiny_tokenizer import make_tokenizer
from velm_train.models.initialisation import seeded_init

_TILE_PX = 56
_TEXT: Mapping[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
}
_TOWER: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
_QWEN_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}

Made = tuple[PretrainedConfig, ProcessorMixin]


def build_tiny(family: FamilyName, *, seed: int = 0, attn_implementation: str = "sdpa") -> FamilyParts:
    """Builds a tiny model in float32; the same seed gives the same weights bit by bit.

    Args:
        family: which real classes to use.
        seed: root seed of the weights.
        attn_implementation: as transformers names it.
    """
    config, processor = _BUILDERS[family]()
    with seeded_init(seed, "tiny", family):
        vlm = AutoModelForImageTextToText.from_config(config, attn_implementation=attn_implementation).eval()
        _stir(vlm)
    return FamilyParts(
        family=family, vlm=vlm, processor=processor, name=f"tiny_{family}", weights_identity=tensors_identity(vlm)
    )


def _stir(vlm: PreTrainedModel) -> None:
    """Gives position embeddings and class tokens that some families start at zero a value, as after training."""
    for name, parameter in vlm.named_parameters():
        if "position_embedding" in name or "pos_embed" in name or "cls_token" in name:
            parameter.data.normal_(std=0.2)


def _qwen2_5_vl() -> Made:
    tokenizer = make_tokenizer(_QWEN_TOKENS)
    config = transformers.Qwen2_5_VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "out_hidden_size": 64,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 56,
            "fullatt_block_indexes": [1, 2],
            "initializer_range": 0.2,
        },
        text_config={
            **_TEXT,
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
        },
        **_qwen_ids(tokenizer),
    )
    images = transformers.Qwen2VLImageProcessor(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 40},
    )
    processor = transformers.Qwen2_5_VLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(),
        chat_template=tokenizer.chat_template,
    )
    return config, processor


def _qwen3_vl() -> Made:
    tokenizer = make_tokenizer(_QWEN_TOKENS)
    config = transformers.Qwen3VLConfig(
        vision_config={
            "depth": 4,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 4,
            "out_hidden_size": 64,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 2],
            "initializer_range": 0.2,
        },
        text_config={
            **_TEXT,
            "vocab_size": len(tokenizer),
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 3, 3],
                "mrope_interleaved": True,
                "rope_theta": 1e4,
            },
        },
        **_qwen_ids(tokenizer),
    )
    images = transformers.Qwen2VLImageProcessor(
        patch_size=16,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 40},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor = transformers.Qwen3VLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=transformers.Qwen3VLVideoProcessor(),
        chat_template=tokenizer.chat_template,
    )
    return config, processor


def _qwen_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    return {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in list(_QWEN_TOKENS.items())[:4]}


def _llava_onevision() -> Made:
    tokenizer = make_tokenizer({"image_token": "<image>", "video_token": "<video>"})
    canvases = [[rows * _TILE_PX, columns * _TILE_PX] for rows in range(1, 4) for columns in range(1, 4)]
    config = transformers.LlavaOnevisionConfig(
        vision_config={
            **_TOWER,
            "model_type": "siglip_vision_model",
            "image_size": _TILE_PX,
            "patch_size": 14,
            "vision_use_head": False,
        },
        text_config={**_TEXT, "model_type": "qwen2", "vocab_size": len(tokenizer), "tie_word_embeddings": True},
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        image_grid_pinpoints=canvases,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        vision_aspect_ratio="anyres_max_4",
    )
    square = {"height": _TILE_PX, "width": _TILE_PX}
    processor = transformers.LlavaOnevisionProcessor(
        image_processor=transformers.LlavaOnevisionImageProcessor(size=square, image_grid_pinpoints=canvases),
        tokenizer=tokenizer,
        video_processor=transformers.LlavaOnevisionVideoProcessor(),
        num_image_tokens=(_TILE_PX // 14) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4",
        chat_template=tokenizer.chat_template,
    )
    return config, processor


def _smolvlm() -> Made:
    marks = [f"<row_{row + 1}_col_{column + 1}>" for row in range(6) for column in range(6)]
    tokenizer = make_tokenizer(
        {
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
            "video_token": "<video>",
        },
        further=marks,
        stop="<end_of_utterance>",
    )
    config = transformers.SmolVLMConfig(
        vision_config={**_TOWER, "image_size": 64, "patch_size": 8},
        text_config={
            **_TEXT,
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
        },
        scale_factor=2,
        image_token_id=tokenizer.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = transformers.SmolVLMProcessor(
        image_processor=transformers.SmolVLMImageProcessor(
            size={"longest_edge": 192}, max_image_size={"longest_edge": 64}, do_image_splitting=True
        ),
        tokenizer=tokenizer,
        video_processor=transformers.SmolVLMVideoProcessor(),
        image_seq_len=16,
        chat_template=tokenizer.chat_template,
    )
    return config, processor


def _internvl() -> Made:
    tokenizer = make_tokenizer(
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        }
    )
    config = transformers.InternVLConfig(
        vision_config={**_TOWER, "image_size": [_TILE_PX, _TILE_PX], "patch_size": [14, 14]},
        text_config={**_TEXT, "model_type": "qwen2", "vocab_size": len(tokenizer)},
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    processor = transformers.InternVLProcessor(
        image_processor=transformers.GotOcr2ImageProcessor(
            size={"height": _TILE_PX, "width": _TILE_PX}, crop_to_patches=True, min_patches=1, max_patches=6
        ),
        tokenizer=tokenizer,
        video_processor=transformers.InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    return config, processor


_BUILDERS: Mapping[FamilyName, Callable[[], Made]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "llava_onevision": _llava_onevision,
    "smolvlm": _smolvlm,
    "internvl": _internvl,
}
