"""Facts about samples and a seed go in; which samples every micro-batch holds comes out, a pure function of its number.

    epoch orders, end to end:  | epoch 0 | epoch 1 | ...
    windows (optimiser steps): |---- accumulate x ranks x batch_size samples ----|---- ... ----|
    micro-batches:             | k=0, rank 0 | k=0, rank 1 | k=1, rank 0 | ...

Nothing is drawn from a running generator, so that any micro-batch can be rebuilt without the ones before it, and
every rank knows the token count of the whole window without asking the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from velm_train.core.errors import ConfigError
from velm_train.core.seeding import generator

Balance = Literal["none", "type"]
SampleOrder = Int[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleFacts:
    """What sampling and loss normalisation need to know before a sample's features are read.

    Attributes:
        answer_type: what class balance is taken over, such as the defect type answered.
        num_tokens: length of the sample without padding.
        num_supervised: positions that carry language-model loss.
        num_scored_views: views whose image score is supervised.
    """

    answer_type: str
    num_tokens: int
    num_supervised: int
    num_scored_views: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatchPlan:
    """One forward pass of one rank.

    Attributes:
        index: number of the micro-batch in this rank's stream.
        samples: indices of its samples.
        num_useful_tokens: tokens that are not padding.
        num_padded_tokens: samples times the longest sample.
        num_supervised: supervised tokens of this micro-batch.
        window_supervised: supervised tokens of the whole window over all ranks, at least 1.
        window_scored_views: scored views of the whole window over all ranks, at least 1.
    """

    index: int
    samples: tuple[int, ...]
    num_useful_tokens: int
    num_padded_tokens: int
    num_supervised: int
    window_supervised: int
    window_scored_views: int


def epoch_order(answer_types: Sequence[str], *, balance: Balance, seed: int, epoch: int) -> SampleOrder:
    """Returns the sample indices of one epoch, as many as there are samples.

    Args:
        answer_types: type of each sample.
        balance: "none" visits every sample once. "type" draws every type equally often (up to one): types with more
            samples than their share are subsampled, types with fewer are repeated, each sample as often as any
            other of its type (up to one). Which samples and which types get the odd draw changes with the epoch.
        seed: root seed.
        epoch: 0 or more.
    """
    rng = generator(seed, "sample_order", balance, str(epoch))
    num_samples = len(answer_types)
    if balance == "none":
        return rng.permutation(num_samples)
    types = sorted(set(answer_types))
    labels = np.array(answer_types)
    share, odd_draws = divmod(num_samples, len(types))
    with_odd_draw = set(rng.permutation(len(types))[:odd_draws].tolist())
    drawn: list[int] = []
    for position, name in enumerate(types):
        members = np.flatnonzero(labels == name)
        quota = share + (position in with_odd_draw)
        repeats, rest = divmod(quota, len(members))
        drawn += members.tolist() * repeats + rng.permutation(members)[:rest].tolist()
    return rng.permutation(np.array(drawn, dtype=np.int64))


class SamplePlan:
    """Gives the micro-batches of one rank by their number."""

    def __init__(
        self,
        facts: Sequence[SampleFacts],
        *,
        batch_size: int,
        accumulate: int,
        balance: Balance,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Remembers the facts; orders are made when first needed.

        Args:
            facts: one entry a sample.
            batch_size: samples per forward pass, 1 or more.
            accumulate: forward passes per optimiser step and rank, 1 or more.
            balance: see `epoch_order`.
            seed: root seed.
            rank: of this process, 0 to world_size - 1.
            world_size: number of processes.

        Raises:
            ConfigError: if there are no samples.
        """
        if not facts:
            raise ConfigError("training got 0 samples, 1 or more are needed; see what the gate and the regions kept")
        self._facts = facts
        self._answer_types = [fact.answer_type for fact in facts]
        self._batch_size = batch_size
        self._accumulate = accumulate
        self._balance: Balance = balance
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._orders: dict[int, SampleOrder] = {}

    def micro_batch(self, index: int) -> MicroBatchPlan:
        """Returns micro-batch `index` of this rank.

        The samples of a window are sorted by length before they are cut into micro-batches: this saves padding and
        cannot change the window's gradient, which is a sum over all of its tokens.
        """
        window = self._window(index // self._accumulate)
        place = (index % self._accumulate) * self._world_size + self._rank
        samples = window[place * self._batch_size : (place + 1) * self._batch_size]
        facts = [self._facts[i] for i in samples]
        window_facts = [self._facts[i] for i in window]
        return MicroBatchPlan(
            index=index,
            samples=tuple(samples),
            num_useful_tokens=sum(fact.num_tokens for fact in facts),
            num_padded_tokens=len(facts) * max(fact.num_tokens for fact in facts),
            num_supervised=sum(fact.num_supervised for fact in facts),
            window_supervised=max(1, sum(fact.num_supervised for fact in window_facts)),
            window_scored_views=max(1, sum(fact.num_scored_views for fact in window_facts)),
        )

    def epoch_position(self, step: int) -> tuple[int, int]:
        """Returns the epoch, and the position in it, of the first sample of optimiser step `step`."""
        return divmod(step * self._window_size, len(self._facts))

    @property
    def _window_size(self) -> int:
        return self._batch_size * self._accumulate * self._world_size

    def _window(self, step: int) -> list[int]:
        first = step * self._window_size
        members = [self._sample_at(position) for position in range(first, first + self._window_size)]
        return sorted(members, key=lambda i: -self._facts[i].num_tokens)

    def _sample_at(self, position: int) -> int:
        epoch, offset = divmod(position, len(self._facts))
        if epoch not in self._orders:
            order = epoch_order(self._answer_types, balance=self._balance, seed=self._seed, epoch=epoch)
            # A window touches few epochs at a time; older ones are never asked for again.
            self._orders = {known: self._orders[known] for known in sorted(self._orders)[-2:]}
            self._orders[epoch] = order
        return int(self._orders[epoch][offset])
