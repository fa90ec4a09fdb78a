"""Words in bundles, without any view."""

from collections.abc import Callable, Sequence

import pytest
import torch

from velm_train.core.batch import NO_VIEWS, Batch, Bundle


@pytest.fixture(scope="session")
def bundled_words() -> Callable[[Sequence[Bundle]], Batch]:
    """Makes a batch of other words in every place, those that a bundle shares excepted."""

    def make(bundles: Sequence[Bundle]) -> Batch:
        rows: list[list[int]] = []
        for bundle in bundles:
            first = 3 + 7 * len(rows)
            shared = list(range(first, first + bundle.num_shared))
            for length in bundle.lengths:
                own = 13 * len(rows) + 5
                rows.append([*shared, *range(own, own + length - bundle.num_shared)])
        width = max(map(len, rows))
        input_ids = torch.tensor([[3 + token % 60 for token in row] + [2] * (width - len(row)) for row in rows])
        attention_mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return Batch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=torch.full_like(input_ids, -100),
            evidence=NO_VIEWS,
            view_sample=torch.zeros(0, dtype=torch.long),
            view_anomalous=torch.zeros(0),
            sample_ids=tuple(f"row{row}" for row in range(len(rows))),
            bundles=tuple(bundles),
        )

    return make
