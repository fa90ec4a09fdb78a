"""A batch of bundles in, where each of its tokens lies in one row without padding out.

    batch:  | views A . question 1 . . |     row:  | views A | question 1 | question 2 | views B . question 3 |
            | views A . question 2 .   |           |<------------ bundle ------------->|<------ bundle ------>|
            | views B . question 3 . . |

What the samples of a bundle share lies in the row once. A token keeps the position that it has in its own sample, and
is predicted from the token before it in its own sample, which for the first own token is the last shared one.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Int, Shaped

from velm_train.core.batch import Batch, Bundle

NO_PREDECESSOR = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class RowPart:
    """The places of one bundle.

    Attributes:
        start: its first place in the row.
        num_causal: places from there that see all places of the part before them: what is shared, or the whole of a
            sample by itself.
        num_tokens: all places of the part.
        branches: for every other place, the places of the part that it sees: what is shared, and its own sample so
            far; None if there are no others.
    """

    start: int
    num_causal: int
    num_tokens: int
    branches: Bool[torch.Tensor, "S _"] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RowLayout:
    """A row of T tokens made from a padded batch.

    Attributes:
        parts: one per bundle, end to end.
        source: place of each token in the padded batch, its rows end to end.
        bundle: number of the bundle that each token belongs to.
        counts: position of each token within its own sample.
        predecessor: place in the row of the token before it in its own sample, NO_PREDECESSOR for the first.
    """

    parts: tuple[RowPart, ...]
    source: Int[torch.Tensor, " T"]
    bundle: Int[torch.Tensor, " T"]
    counts: Int[torch.Tensor, " T"]
    predecessor: Int[torch.Tensor, " T"]

    def pick(self, values: Shaped[torch.Tensor, "B P"]) -> Shaped[torch.Tensor, "1 T"]:
        """Returns the values of a padded batch in the order of the row."""
        return values.flatten()[self.source][None]


def lay_out(batch: Batch) -> RowLayout:
    """Returns the row of a batch.

    Args:
        batch: with bundles of all its rows, padded on the right.
    """
    bundles = batch.bundles
    assert bundles is not None, "only a batch with bundles can be laid out as one row"
    num_rows, width = batch.input_ids.shape
    assert sum(len(bundle.lengths) for bundle in bundles) == num_rows, (bundles, num_rows)
    assert max(max(bundle.lengths) for bundle in bundles) == width, (bundles, width)
    device = batch.input_ids.device
    starts = [0, *accumulate(bundle.num_tokens for bundle in bundles)]
    columns = [
        _columns(bundle, number=number, first_row=first_row, start=start, width=width)
        for number, (bundle, first_row, start) in enumerate(zip(bundles, batch.first_rows, starts, strict=False))
    ]
    source, numbers, counts, predecessor = torch.cat(columns, dim=1).to(device)
    return RowLayout(
        parts=tuple(_part(bundle, start=start, device=device) for bundle, start in zip(bundles, starts, strict=False)),
        source=source,
        bundle=numbers,
        counts=counts,
        predecessor=predecessor,
    )


def _columns(bundle: Bundle, *, number: int, first_row: int, start: int, width: int) -> Int[torch.Tensor, "4 _"]:
    """Returns source, bundle, count and predecessor of every token of a bundle."""
    shared = bundle.num_shared
    assert all(length > shared for length in bundle.lengths), bundle
    assert shared > 0 or len(bundle.lengths) == 1, bundle
    spans = [(first_row, 0, shared)] if shared else []
    spans += [(first_row + place, shared, length) for place, length in enumerate(bundle.lengths)]
    pieces = []
    at = start
    for row, begin, end in spans:
        counts = torch.arange(begin, end)
        before = torch.arange(at - 1, at - 1 + len(counts))
        before[0] = start + begin - 1 if begin else NO_PREDECESSOR
        pieces.append(torch.stack([row * width + counts, torch.full_like(counts, number), counts, before]))
        at += len(counts)
    return torch.cat(pieces, dim=1)


def _part(bundle: Bundle, *, start: int, device: torch.device) -> RowPart:
    if not bundle.num_shared:
        (length,) = bundle.lengths
        return RowPart(start=start, num_causal=length, num_tokens=length, branches=None)
    own = torch.tensor([length - bundle.num_shared for length in bundle.lengths])
    sample = torch.arange(len(own)).repeat_interleave(own)  # (S,)
    same = (sample[:, None] == sample[None, :]).tril()
    branches = torch.cat([same.new_ones(len(sample), bundle.num_shared), same], dim=1)
    return RowPart(
        start=start, num_causal=bundle.num_shared, num_tokens=bundle.num_tokens, branches=branches.to(device)
    )
