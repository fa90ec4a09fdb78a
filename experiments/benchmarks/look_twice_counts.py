"""Layer sizes in, the adapter's share of the multiply-adds of a training step and of a prefill out, by arithmetic.

The tower's attention is left out, so that the shares are a little too high.
"""

from dataclasses import dataclass

import torch

from velm_train.models.look_twice.published import PublishedLookTwice


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Layer sizes that the arithmetic needs.

    Attributes:
        text_linear: parameters of the language model's linear layers, all of which every token passes.
        text_layers: number of layers.
        text_dim: width.
        vision_linear: parameters of the tower's linear layers and merger.
        vision_layers: number of blocks.
        vision_dim: width.
        patches: per view.
        merged: patches per visual token of the language model.
        words: tokens of the prompt that are no picture.
    """

    text_linear: int
    text_layers: int
    text_dim: int
    vision_linear: int
    vision_layers: int
    vision_dim: int
    patches: int
    merged: int
    words: int


def qwen2_5_vl_7b(*, patches: int, words: int) -> Sizes:
    """Returns Qwen2.5-VL-7B: 28 layers of 3584 with 4 of 28 heads for keys, 32 vision blocks of 1280."""
    width, inner, head_share = 3584, 18944, 512
    per_layer = 2 * width * width + 2 * width * head_share + 3 * width * inner
    vision, vision_inner = 1280, 3420
    per_block = 4 * vision * vision + 3 * vision * vision_inner
    merger = (4 * vision) ** 2 // 4 + 4 * vision * width // 4  # per patch: four patches pass it together
    return Sizes(
        text_linear=28 * per_layer,
        text_layers=28,
        text_dim=width,
        vision_linear=32 * per_block + merger,
        vision_layers=32,
        vision_dim=vision,
        patches=patches,
        merged=4,
        words=words,
    )


def text_multiplications(sizes: Sizes, tokens: int) -> float:
    """Returns multiply-adds of one pass of the language model: every linear layer, and causal attention."""
    return tokens * sizes.text_linear + sizes.text_layers * tokens * tokens * sizes.text_dim


def adapter_multiplications(sizes: Sizes, *, dim: int, levels: int, second_look: int) -> float:
    """Returns multiply-adds of one pass of the improved adapter over one view."""
    per_patch = (
        levels * sizes.vision_dim * dim  # level projections
        + sizes.vision_dim * dim  # keys
        + sizes.vision_dim * (2 + second_look)  # class pooling, image score, means of the bins
        + dim * (levels + second_look)  # margins, attention logits
        + second_look * sizes.text_dim  # values
    )
    return sizes.patches * per_patch


def count(*, patches: int, words: int, dim: int, second_look: int, levels: int = 4) -> dict[str, float]:
    """Returns the adapter's share of a training step and of a prefill, one view a prompt, by multiply-adds.

    Training: LoRA passes the language model once forward and once back for activations (weights are frozen), the
    tower runs forward; the adapter runs forward and twice that backward.
    """
    sizes = qwen2_5_vl_7b(patches=patches, words=words)
    tower = patches * sizes.vision_linear
    tokens = patches // sizes.merged + words
    base = text_multiplications(sizes, tokens)
    longer = text_multiplications(sizes, tokens + second_look) - base
    adapter = adapter_multiplications(sizes, dim=dim, levels=levels, second_look=second_look)
    return {
        "prompt tokens": tokens,
        "tower, GMAC": tower / 1e9,
        "language model, GMAC": base / 1e9,
        "adapter, GMAC": adapter / 1e9,
        "K more tokens, GMAC": longer / 1e9,
        "share of a training step, %": 100 * (3 * adapter + 2 * longer) / (2 * base + tower),
        "share of a step with cached tower, %": 100 * (3 * adapter + 2 * longer) / (2 * base),
        "share of a prefill, %": 100 * (adapter + longer) / (base + tower),
    }


CASES = ((448, 128, 5), (448, 128, 17), (896, 128, 5), (896, 128, 17), (896, 512, 17))
"""Side of a view in pixels, width of the adapter, second-look tokens."""


def show_counts() -> dict[str, dict[str, float]]:
    """Prints the arithmetic of Qwen2.5-VL-7B, and the size of the published form."""
    print("\nQwen2.5-VL-7B, computed from layer sizes, not measured; one view, 200 words, 4 levels")
    found = {
        f"{side} px {dim} K{second_look}": count(patches=(side // 14) ** 2, words=200, dim=dim, second_look=second_look)
        for side, dim, second_look in CASES
    }
    print(f"{'picture, width, second-look tokens':40}" + "".join(f"{title:>15}" for title in found))
    for name in next(iter(found.values())):
        print(f"{name:40}" + "".join(f"{values[name]:15.2f}" for values in found.values()))
    with torch.device("meta"):
        published = PublishedLookTwice(level_dim=1152, final_dim=1152, num_levels=4, num_tokens=729)
    print(f"published form at its own sizes: {sum(p.numel() for p in published.parameters()):,} parameters")
    return found
