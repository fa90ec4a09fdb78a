"""A prefix and each row's options in, the log-likelihood of every option out, the prompt computed once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from transformers import PreTrainedModel

from velm_train.models.prefix import Prefix, continue_from, logits_of

MAX_BRANCHES = 64
"""Options that run side by side; each holds a copy of its prompt's keys and values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Branch:
    row: int
    option: int
    token_ids: tuple[int, ...]


def score_options(
    language_model: PreTrainedModel,
    prefix: Prefix,
    *,
    options: Sequence[Sequence[Sequence[int]]],
    max_branches: int = MAX_BRANCHES,
) -> list[Float[torch.Tensor, " options"]]:
    """Sums log p(token | prompt, option tokens before it) over each option's tokens.

    The first token is read from the prompt's last hidden state, the others from branches of its cache, which is
    equal to scoring every full sequence by itself.

    Args:
        language_model: the model that made the prefix.
        prefix: of B prompts; left as it is.
        options: row -> option -> token ids, at least one token each.
        max_branches: how many options share one pass.

    Returns:
        For each row its options' log-likelihoods, nats, float32.
    """
    assert len(options) == len(prefix.lengths), f"{len(options)} rows of options for {len(prefix.lengths)} prompts"
    first = logits_of(language_model, prefix.last_hidden).log_softmax(dim=-1)  # (B, V)
    scores = [
        first[row, torch.tensor([token_ids[0] for token_ids in row_options], device=first.device)]
        for row, row_options in enumerate(options)
    ]
    for branches in _chunks(options, max_branches=max_branches):
        rest = _score_rest(language_model, prefix, branches)
        for branch, log_likelihood in zip(branches, rest, strict=True):
            scores[branch.row][branch.option] += log_likelihood
    return scores


def _chunks(options: Sequence[Sequence[Sequence[int]]], *, max_branches: int) -> Iterator[list[_Branch]]:
    """Yields options of more than one token, those of like length together."""
    branches = [
        _Branch(row=row, option=option, token_ids=tuple(token_ids))
        for row, row_options in enumerate(options)
        for option, token_ids in enumerate(row_options)
        if len(token_ids) > 1
    ]
    branches.sort(key=lambda branch: len(branch.token_ids))
    for start in range(0, len(branches), max_branches):
        yield branches[start : start + max_branches]


def _score_rest(
    language_model: PreTrainedModel, prefix: Prefix, branches: list[_Branch]
) -> Float[torch.Tensor, " branches"]:
    """Returns the log-likelihood of each option's tokens after its first."""
    device = prefix.lengths.device
    longest = max(len(branch.token_ids) for branch in branches) - 1
    inputs = torch.zeros(len(branches), longest, dtype=torch.long, device=device)
    targets, token_mask = torch.zeros_like(inputs), torch.zeros_like(inputs)
    for number, branch in enumerate(branches):
        length = len(branch.token_ids) - 1
        inputs[number, :length] = torch.tensor(branch.token_ids[:-1], device=device)
        targets[number, :length] = torch.tensor(branch.token_ids[1:], device=device)
        token_mask[number, :length] = 1
    rows = torch.tensor([branch.row for branch in branches], device=device)
    hidden = continue_from(language_model, prefix.branch(rows), token_ids=inputs, token_mask=token_mask)
    real = token_mask.bool()
    log_probabilities = logits_of(language_model, hidden[real]).log_softmax(dim=-1)  # (real tokens, V)
    chosen = log_probabilities.gather(1, targets[real][:, None]).squeeze(1)
    return torch.zeros(real.shape, device=device).masked_scatter(real, chosen).sum(dim=1)
