"""Where tokens lie in a row, written out by hand."""

import pytest
import torch

from velm_train.core.batch import NO_VIEWS, Batch, Bundle
from velm_train.models.packing.layout import lay_out


def batch_of(rows, bundles):
    width = max(map(len, rows))
    padded = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return Batch(
        input_ids=padded,
        attention_mask=mask,
        labels=torch.full_like(padded, -100),
        evidence=NO_VIEWS,
        view_sample=torch.zeros(0, dtype=torch.long),
        view_anomalous=torch.zeros(0),
        sample_ids=tuple(map(str, range(len(rows)))),
        bundles=tuple(bundles),
    )


def test_samples_by_themselves_lie_end_to_end_and_positions_begin_anew():
    layout = lay_out(batch_of([[5, 6], [7, 8, 9]], [Bundle(lengths=(2,)), Bundle(lengths=(3,))]))
    assert layout.source.tolist() == [0, 1, 3, 4, 5]
    assert layout.counts.tolist() == [0, 1, 0, 1, 2]
    assert layout.predecessor.tolist() == [-1, 0, -1, 2, 3]
    assert layout.bundle.tolist() == [0, 0, 1, 1, 1]
    assert [(part.start, part.num_causal, part.num_tokens, part.branches) for part in layout.parts] == [
        (0, 2, 2, None),
        (2, 3, 3, None),
    ]


def test_what_a_bundle_shares_lies_there_once_and_every_branch_goes_on_behind_it():
    rows = [[9], [1, 2, 3], [1, 2, 4, 5], [1, 2, 6]]
    layout = lay_out(batch_of(rows, [Bundle(lengths=(1,)), Bundle(lengths=(3, 4, 3), num_shared=2)]))
    #                                         9  1  2  3  4  5  6
    assert layout.source.tolist() == [        0, 4, 5, 6, 10, 11, 14]  # fmt: skip
    assert layout.counts.tolist() == [        0, 0, 1, 2, 2, 3, 2]  # fmt: skip
    assert layout.predecessor.tolist() == [  -1, -1, 1, 2, 2, 4, 2]  # fmt: skip
    assert layout.pick(batch_of(rows, []).input_ids).tolist() == [[9, 1, 2, 3, 4, 5, 6]]
    last = layout.parts[1]
    assert (last.start, last.num_causal, last.num_tokens) == (1, 2, 6)
    assert last.branches.int().tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize(
    "bundles",
    [
        [Bundle(lengths=(3,))],  # a row is missing
        [Bundle(lengths=(3,)), Bundle(lengths=(2,))],  # padding was counted, or not
        [Bundle(lengths=(3, 4), num_shared=3)],  # nothing of its own
        [Bundle(lengths=(3, 4))],  # two samples that share nothing
    ],
)
def test_bundles_that_do_not_fit_the_batch_are_refused(bundles):
    with pytest.raises(AssertionError):
        lay_out(batch_of([[1, 2, 3], [1, 2, 3, 4]], bundles))
