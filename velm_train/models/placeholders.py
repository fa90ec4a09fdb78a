"""Word embeddings and visual tokens in, embeddings with the visual tokens in the places of their placeholders out."""

import torch
from jaxtyping import Bool, Float


def fill_placeholders(
    embeds: Float[torch.Tensor, "B T D"],
    placeholders: Bool[torch.Tensor, "B T"],
    tokens: Float[torch.Tensor, "places D"],
) -> Float[torch.Tensor, "B T D"]:
    """Writes tokens into the places of their placeholders, sample by sample and view by view."""
    found = int(placeholders.sum())
    assert found == len(tokens), f"{found} placeholders in the batch for {len(tokens)} visual tokens"
    return embeds.masked_scatter(placeholders[..., None].expand_as(embeds), tokens.to(embeds.dtype))
