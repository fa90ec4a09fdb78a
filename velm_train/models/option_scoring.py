"""Prompts and each row's options in, the log-likelihood of every option out, all in one pass.

    row: [ prompt ........ ][ option 1 ][ option 2 ][ ... ]      T = P + S positions
           causal            each option sees the prompt and itself, never another option

Every option starts at the position behind the prompt, so that the result equals scoring each full sequence by itself
while the prompt and its pictures are computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int

from velm_train.models.prefix import CausalLanguageModel, is_right_padded, logits_of, positions_of

_PADDING = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tail:
    """What stands behind the prompts: every option's tokens but the last, row by row.

    Attributes:
        token_ids: fed to the model; 0 on padding.
        targets: the token that each position predicts.
        option: number of the option a position belongs to, -1 on padding.
        offset: position within the option, 0 on padding.
    """

    token_ids: Int[torch.Tensor, "B S"]
    targets: Int[torch.Tensor, "B S"]
    option: Int[torch.Tensor, "B S"]
    offset: Int[torch.Tensor, "B S"]


def score_options(
    language_model: CausalLanguageModel,
    *,
    inputs_embeds: Float[torch.Tensor, "B P D"],
    attention_mask: Int[torch.Tensor, "B P"],
    options: Sequence[Sequence[Sequence[int]]],
) -> list[Float[torch.Tensor, " options"]]:
    """Sums log p(token | prompt, option tokens before it) over each option's tokens.

    Args:
        language_model: a causal model whose decoder takes `inputs_embeds`, a four-dimensional mask and positions.
        inputs_embeds: embedded prompts, padded on the right.
        attention_mask: 1 on real tokens; every row has at least one.
        options: row -> option -> token ids, at least one token each.

    Returns:
        For each row its options' log-likelihoods, nats, float32.
    """
    assert len(options) == len(inputs_embeds), f"{len(options)} rows of options for {len(inputs_embeds)} prompts"
    assert is_right_padded(attention_mask), "prompts must be padded on the right"
    tail = _make_tail(options, device=inputs_embeds.device)
    hidden = _run(language_model, inputs_embeds, attention_mask, tail)  # (B, P + S, D)
    rows = torch.arange(len(options), device=hidden.device)
    first = logits_of(language_model, hidden[rows, attention_mask.sum(dim=1) - 1]).log_softmax(dim=-1)  # (B, V)
    rest = _rest(language_model, hidden[:, attention_mask.shape[1] :], tail)  # (B, S)
    scores = []
    for row, row_options in enumerate(options):
        beginnings = torch.tensor([token_ids[0] for token_ids in row_options], device=hidden.device)
        belongs = tail.option[row][:, None] == torch.arange(len(row_options), device=hidden.device)  # (S, options)
        scores.append(first[row, beginnings] + (rest[row][:, None] * belongs).sum(dim=0))
    return scores


def _make_tail(options: Sequence[Sequence[Sequence[int]]], *, device: torch.device) -> _Tail:
    rows: list[list[tuple[int, int, int, int]]] = [
        [
            (token_ids[offset], token_ids[offset + 1], number, offset)
            for number, token_ids in enumerate(row_options)
            for offset in range(len(token_ids) - 1)
        ]
        for row_options in options
    ]
    longest = max(len(row) for row in rows)
    padded = [row + [(0, 0, _PADDING, 0)] * (longest - len(row)) for row in rows]
    table = torch.tensor(padded, dtype=torch.long, device=device).reshape(len(rows), longest, 4)
    token_ids, targets, option, offset = table.unbind(dim=2)
    return _Tail(token_ids=token_ids, targets=targets, option=option, offset=offset)


def _run(
    language_model: CausalLanguageModel,
    inputs_embeds: Float[torch.Tensor, "B P D"],
    attention_mask: Int[torch.Tensor, "B P"],
    tail: _Tail,
) -> Float[torch.Tensor, "B T D"]:
    lengths = attention_mask.sum(dim=1, keepdim=True)
    embeds = torch.cat([inputs_embeds, language_model.get_input_embeddings()(tail.token_ids)], dim=1)
    positions = torch.cat([positions_of(attention_mask), lengths + tail.offset], dim=1)
    allowed = visible(attention_mask, option=tail.option, offset=tail.offset)
    blocked = torch.zeros(allowed.shape, dtype=embeds.dtype, device=embeds.device)
    blocked = blocked.masked_fill(~allowed, torch.finfo(embeds.dtype).min)
    output = language_model.get_decoder()(
        inputs_embeds=embeds, attention_mask=blocked[:, None], position_ids=positions, use_cache=False
    )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def visible(
    attention_mask: Int[torch.Tensor, "B P"], *, option: Int[torch.Tensor, "B S"], offset: Int[torch.Tensor, "B S"]
) -> Bool[torch.Tensor, "B T T"]:
    """Returns which position (row) may see which (column); padding sees itself, so that nothing is undefined.

    Args:
        attention_mask: 1 on the prompts' real tokens.
        option: number of the option of each position behind the prompt, -1 on padding.
        offset: position within the option.
    """
    real = attention_mask.bool()
    num_prompt = real.shape[1]
    causal = torch.ones(num_prompt, num_prompt, dtype=torch.bool, device=real.device).tril()
    same_option = (option[:, :, None] == option[:, None, :]) & (offset[:, None, :] <= offset[:, :, None])
    allowed = torch.cat(
        [
            torch.cat([causal & real[:, None, :], real.new_zeros(*real.shape, option.shape[1])], dim=2),
            torch.cat([real[:, None, :].expand(-1, option.shape[1], -1), same_option], dim=2),
        ],
        dim=1,
    )
    return allowed | torch.eye(allowed.shape[1], dtype=torch.bool, device=real.device)


def _rest(
    language_model: CausalLanguageModel, hidden: Float[torch.Tensor, "B S D"], tail: _Tail
) -> Float[torch.Tensor, "B S"]:
    """Returns the log-likelihood of the target of every tail position, 0 on padding."""
    real = tail.option != _PADDING
    values = torch.zeros(real.shape, device=hidden.device)
    if not bool(real.any()):
        return values
    log_probabilities = logits_of(language_model, hidden[real]).log_softmax(dim=-1)  # (real positions, V)
    chosen = log_probabilities.gather(1, tail.targets[real][:, None]).squeeze(1)
    return values.masked_scatter(real, chosen)
