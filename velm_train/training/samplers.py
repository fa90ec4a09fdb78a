"""Facts about samples and a seed go in; which samples every micro-batch holds comes out, a pure function of its number.

    epoch orders, end to end:  | epoch 0 | epoch 1 | ...
    windows (optimiser steps): |---- accumulate x ranks passes (windows.py) ----|---- ... ----|
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
from velm_train.training.windows import PassLimits, WindowCutter, cut_into_passes

Balance = Literal["none", "type", "category", "gate"]
SampleOrder = Int[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleFacts:
    """What sampling and loss normalisation need to know before a sample's features are read.

    Attributes:
        sample_id: names the sample in messages.
        answer_type: the defect type answered, or whatever else classes are.
        category: of the image.
        false_alarm: True if the gate flagged a place without a defect.
        num_tokens: length of the sample without padding.
        num_supervised: positions that carry language-model loss.
        num_scored_views: views whose image score is supervised.
    """

    sample_id: str
    answer_type: str
    category: str
    false_alarm: bool
    num_tokens: int
    num_supervised: int
    num_scored_views: int

    def group(self, balance: Balance) -> str:
        """Returns what the sample counts as under a balance."""
        return {"none": "", "type": self.answer_type, "category": self.category, "gate": str(self.false_alarm)}[balance]


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatchPlan:
    """One forward pass of one rank.

    Attributes:
        index: number of the micro-batch in this rank's stream.
        samples: indices of its samples.
        sample_ids: their names.
        num_useful_tokens: tokens that are not padding.
        num_padded_tokens: samples times the longest sample.
        num_supervised: supervised tokens of this micro-batch.
        window_supervised: supervised tokens of the whole window over all ranks, at least 1.
        window_scored_views: scored views of the whole window over all ranks, at least 1.
    """

    index: int
    samples: tuple[int, ...]
    sample_ids: tuple[str, ...]
    num_useful_tokens: int
    num_padded_tokens: int
    num_supervised: int
    window_supervised: int
    window_scored_views: int


def epoch_order(groups: Sequence[str], *, balance: Balance, seed: int, epoch: int) -> SampleOrder:
    """Returns the sample indices of one epoch, as many as there are samples.

    Args:
        groups: what each sample counts as: its type, its category, or whether it is a false alarm.
        balance: "none" visits every sample once. Otherwise every group is drawn equally often (up to one): groups
            with more samples than their share are subsampled, groups with fewer are repeated, each sample as often
            as any other of its group (up to one). Which samples and which groups get the odd draw changes with the
            epoch.
        seed: root seed.
        epoch: 0 or more.
    """
    rng = generator(seed, "sample_order", balance, str(epoch))
    num_samples = len(groups)
    if balance == "none":
        return rng.permutation(num_samples)
    names = sorted(set(groups))
    labels = np.array(groups)
    share, odd_draws = divmod(num_samples, len(names))
    with_odd_draw = set(rng.permutation(len(names))[:odd_draws].tolist())
    drawn: list[int] = []
    for position, name in enumerate(names):
        members = np.flatnonzero(labels == name)
        quota = share + (position in with_odd_draw)
        repeats, rest = divmod(quota, len(members))
        drawn += members.tolist() * repeats + rng.permutation(members)[:rest].tolist()
    return rng.permutation(np.array(drawn, dtype=np.int64))


def in_buckets(
    order: SampleOrder, lengths: Sequence[int], *, bucket_size: int, rng: np.random.Generator
) -> SampleOrder:
    """Returns an order in which neighbours are of about one length, so that passes need little padding.

    Each run of `bucket_size` samples is sorted by length; the runs stay where they were, and each goes up or down by
    the toss of a coin, so that no length comes first always.

    Args:
        order: sample indices.
        lengths: tokens of each sample.
        bucket_size: samples of a run; 0 or 1 changes nothing.
        rng: tosses the coins.
    """
    if bucket_size < 2:
        return order
    runs = [order[start : start + bucket_size] for start in range(0, len(order), bucket_size)]
    table = np.asarray(lengths)
    ordered = [run[np.argsort(table[run], kind="stable")] for run in runs]
    return np.concatenate([run if rng.integers(2) else run[::-1] for run in ordered])


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
        token_budget: int = 0,
        bucket_size: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Remembers the facts; orders are made when first needed.

        Args:
            facts: one entry a sample.
            batch_size: samples per forward pass, 1 or more; with a token budget the most there may be.
            accumulate: forward passes per optimiser step and rank, 1 or more.
            balance: see `epoch_order`.
            seed: root seed.
            token_budget: tokens per forward pass, padding included; 0 for batches of `batch_size`.
            bucket_size: see `in_buckets`.
            rank: of this process, 0 to world_size - 1.
            world_size: number of processes.

        Raises:
            ConfigError: if there are no samples, or one alone is over the token budget.
        """
        if not facts:
            raise ConfigError("training got 0 samples, 1 or more are needed; see what the gate and the regions kept")
        _require_within_budget(facts, token_budget=token_budget)
        self._facts = facts
        self._groups = [fact.group(balance) for fact in facts]
        self._lengths = [fact.num_tokens for fact in facts]
        self._limits = PassLimits(batch_size=batch_size, token_budget=token_budget)
        self._bucket_size = bucket_size
        self._accumulate = accumulate
        self._balance: Balance = balance
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._orders: dict[int, SampleOrder] = {}
        self._cutter = WindowCutter(
            lambda position: self._lengths[self._sample_at(position)],
            num_passes=accumulate * world_size,
            limits=self._limits,
        )

    def micro_batch(self, index: int) -> MicroBatchPlan:
        """Returns micro-batch `index` of this rank.

        The samples of a window are sorted by length before they are cut into micro-batches: this saves padding and
        cannot change the window's gradient, which is a sum over all of its tokens.
        """
        window = self._window(index // self._accumulate)
        place = (index % self._accumulate) * self._world_size + self._rank
        passes = cut_into_passes(
            [self._lengths[i] for i in window], num_passes=self._accumulate * self._world_size, limits=self._limits
        )
        assert passes is not None, "a window holds what fits into its passes"
        begin, end = passes[place]
        samples = window[begin:end]
        facts = [self._facts[i] for i in samples]
        window_facts = [self._facts[i] for i in window]
        return MicroBatchPlan(
            index=index,
            samples=tuple(samples),
            sample_ids=tuple(fact.sample_id for fact in facts),
            num_useful_tokens=sum(fact.num_tokens for fact in facts),
            num_padded_tokens=len(facts) * max(fact.num_tokens for fact in facts),
            num_supervised=sum(fact.num_supervised for fact in facts),
            window_supervised=max(1, sum(fact.num_supervised for fact in window_facts)),
            window_scored_views=max(1, sum(fact.num_scored_views for fact in window_facts)),
        )

    def epoch_position(self, step: int) -> tuple[int, int]:
        """Returns the epoch, and the position in it, of the first sample of optimiser step `step`."""
        return divmod(self._cutter.bounds(step)[0], len(self._facts))

    def _window(self, step: int) -> list[int]:
        begin, end = self._cutter.bounds(step)
        members = [self._sample_at(position) for position in range(begin, end)]
        return sorted(members, key=lambda i: -self._lengths[i])

    def _sample_at(self, position: int) -> int:
        epoch, offset = divmod(position, len(self._facts))
        if epoch not in self._orders:
            order = epoch_order(self._groups, balance=self._balance, seed=self._seed, epoch=epoch)
            coins = generator(self._seed, "buckets", str(epoch))
            # A window touches few epochs at a time; older ones are never asked for again.
            self._orders = {known: self._orders[known] for known in sorted(self._orders)[-2:]}
            self._orders[epoch] = in_buckets(order, self._lengths, bucket_size=self._bucket_size, rng=coins)
        return int(self._orders[epoch][offset])


def _require_within_budget(facts: Sequence[SampleFacts], *, token_budget: int) -> None:
    too_long = [fact for fact in facts if token_budget and fact.num_tokens > token_budget]
    if too_long:
        worst = max(too_long, key=lambda fact: fact.num_tokens)
        raise ConfigError(
            f"trainer.token_budget is {token_budget}, and {len(too_long)} of {len(facts)} samples are longer by "
            f"themselves; the longest is {worst.sample_id} with {worst.num_tokens} tokens; allow as many, or show "
            "smaller or fewer views"
        )
