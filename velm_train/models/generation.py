"""A prefix in, greedy responses as token ids out."""

from collections.abc import Collection

import torch

from velm_train.models.prefix import CausalLanguageModel, Prefix, continue_from, logits_of


def generate_greedily(
    language_model: CausalLanguageModel, prefix: Prefix, *, max_new_tokens: int, stop_token_ids: Collection[int]
) -> list[list[int]]:
    """Takes the likeliest token again and again until each row has stopped.

    Args:
        language_model: the model that made the prefix.
        prefix: of B prompts; left as it is.
        max_new_tokens: longest response, at least 1.
        stop_token_ids: tokens that end a response; they are not part of it.

    Returns:
        For each row its response's token ids.
    """
    num_rows = len(prefix.lengths)
    running = prefix.branch(torch.arange(num_rows, device=prefix.lengths.device))
    responses: list[list[int]] = [[] for _ in range(num_rows)]
    stopped = [False] * num_rows
    hidden = prefix.last_hidden
    for step in range(max_new_tokens):
        next_ids = logits_of(language_model, hidden).argmax(dim=-1)  # (B,)
        for row, token_id in enumerate(next_ids.tolist()):
            stopped[row] = stopped[row] or token_id in stop_token_ids
            if not stopped[row]:
                responses[row].append(token_id)
        if all(stopped) or step == max_new_tokens - 1:
            break
        token_mask = torch.ones_like(next_ids)[:, None]
        hidden = continue_from(language_model, running, token_ids=next_ids[:, None], token_mask=token_mask)[:, -1]
        running = Prefix(
            last_hidden=hidden,
            attention_mask=torch.cat([running.attention_mask, token_mask], dim=1),
            lengths=running.lengths + 1,
            cache=running.cache,
        )
    return responses
