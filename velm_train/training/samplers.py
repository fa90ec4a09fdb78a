"""Facts about samples and a seed go in; which samples every micro-batch holds comes out, a pure function of its number.

    epoch orders, end to end:  | epoch 0 | epoch 1 | ...
    windows (optimiser steps): |---- accumulate x ranks passes (windows.py) ----|---- ... ----|
    micro-batches:             | k=0, rank 0 | k=0, rank 1 | k=1, rank 0 | ...

Nothing is drawn from a running generator, so that any micro-batch can be rebuilt without the ones before it, and
every rank knows the token count of the whole window without asking the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from velm_train.core.errors import ConfigError
from velm_train.core.ranks import ONLY_RANK, Rank
from velm_train.core.seeding import generator
from velm_train.training.balance import Balance
from velm_train.training.bundles import (
    ALONE,
    Draw,
    SampleBundle,
    SharedPrefix,
    arrange,
    bundles_of,
    num_tokens,
    squared_lengths,
)
from velm_train.training.hard_examples import HardExamples
from velm_train.training.orders import SampleOrder, drawn_together, epoch_order, in_buckets
from velm_train.training.windows import PassLimits, WindowCutter, cut_into_passes


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
        prefix: what it begins with and others do, too.
    """

    sample_id: str
    answer_type: str
    category: str
    false_alarm: bool
    num_tokens: int
    num_supervised: int
    num_scored_views: int
    prefix: SharedPrefix = ALONE

    def group(self, balance: Balance) -> str:
        """Returns what the sample counts as under a balance."""
        groups = {"type": self.answer_type, "category": self.category, "gate": str(self.false_alarm)}
        return groups[balance] if balance in groups else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatchPlan:
    """One forward pass of one rank.

    Attributes:
        index: number of the micro-batch in this rank's stream.
        samples: indices of its samples.
        bundles: of these samples, in order.
        visits: number of each sample in the endless stream of all epochs; seeds what is drawn anew at each visit.
        sample_ids: their names.
        num_useful_tokens: tokens that are not padding; what samples of a bundle share counts once.
        num_padded_tokens: tokens computed: samples times the longest sample, or as many as useful ones in a row.
        squared_lengths: sum over the samples of their tokens squared; of pairs of shared tokens once.
        num_supervised: supervised tokens of this micro-batch.
        window_supervised: supervised tokens of the whole window over all ranks, at least 1.
        window_scored_views: scored views of the whole window over all ranks, at least 1.
    """

    index: int
    samples: tuple[int, ...]
    bundles: tuple[SampleBundle, ...]
    visits: tuple[int, ...]
    sample_ids: tuple[str, ...]
    num_useful_tokens: int
    num_padded_tokens: int
    squared_lengths: int
    num_supervised: int
    window_supervised: int
    window_scored_views: int


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
        rank: Rank = ONLY_RANK,
        hard: HardExamples | None = None,
        bundle_size: int | None = None,
    ) -> None:
        """Remembers the facts; orders are made when first needed.

        Args:
            facts: one entry a sample.
            batch_size: samples per forward pass, 1 or more; with a token budget the most there may be.
            accumulate: forward passes per optimiser step and rank, 1 or more.
            balance: see `epoch_order`; "hard" to leave the orders to `hard`.
            seed: root seed.
            token_budget: tokens per forward pass, as `windows.PassLimits` counts them; 0 for batches of `batch_size`.
            bucket_size: see `in_buckets`.
            rank: this process.
            hard: orders the epochs of balance "hard"; None for any other.
            bundle_size: most samples of a bundle; None for passes that are padded and share nothing.

        Raises:
            ConfigError: if there are no samples, or one alone is over the token budget.
        """
        if not facts:
            raise ConfigError("training got 0 samples, 1 or more are needed; see what the gate and the regions kept")
        _require_within_budget(facts, token_budget=token_budget)
        self._facts = facts
        self._groups = [fact.group(balance) for fact in facts]
        self._lengths = [fact.num_tokens for fact in facts]
        self._prefixes = [fact.prefix for fact in facts]
        self._most = bundle_size or 1
        self._in_rows = bundle_size is not None
        self._limits = PassLimits(batch_size=batch_size, token_budget=token_budget)
        self._bucket_size = bucket_size
        self._accumulate = accumulate
        self._balance: Balance = balance
        self._hard = hard
        self._seed = seed
        self._rank = rank.number
        self._world_size = rank.world_size
        self._orders: dict[int, SampleOrder] = {}
        self._cutter = WindowCutter(
            lambda begin, end: self._passes(self._arranged(begin, end)) is not None,
            num_passes=accumulate * rank.world_size,
            limits=self._limits,
        )

    def micro_batch(self, index: int) -> MicroBatchPlan:
        """Returns micro-batch `index` of this rank.

        The samples of a window are sorted by length before they are cut into micro-batches: this saves padding and
        cannot change the window's gradient, which is a sum over all of its tokens.
        """
        window = self._arranged(*self._cutter.bounds(index // self._accumulate))
        passes = self._passes(window)
        assert passes is not None, "a window holds what fits into its passes"
        begin, end = passes[(index % self._accumulate) * self._world_size + self._rank]
        draws = window[begin:end]
        facts = [self._facts[draw.sample] for draw in draws]
        window_facts = [self._facts[draw.sample] for draw in window]
        num_useful = num_tokens(draws)
        return MicroBatchPlan(
            index=index,
            samples=tuple(draw.sample for draw in draws),
            bundles=bundles_of(draws),
            visits=tuple(draw.visit for draw in draws),
            sample_ids=tuple(fact.sample_id for fact in facts),
            num_useful_tokens=num_useful,
            num_padded_tokens=num_useful if self._in_rows else len(facts) * max(fact.num_tokens for fact in facts),
            squared_lengths=squared_lengths(draws),
            num_supervised=sum(fact.num_supervised for fact in facts),
            window_supervised=max(1, sum(fact.num_supervised for fact in window_facts)),
            window_scored_views=max(1, sum(fact.num_scored_views for fact in window_facts)),
        )

    def epoch_position(self, step: int) -> tuple[int, int]:
        """Returns the epoch, and the position in it, of the first sample of optimiser step `step`."""
        return divmod(self._cutter.bounds(step)[0], len(self._facts))

    def epochs_in_reach(self, step: int) -> range:
        """Returns the epochs whose order has to be known to cut the window of optimiser step `step`."""
        begin = self._cutter.bounds(step)[0]
        most = self._accumulate * self._world_size * self._limits.batch_size
        return range(begin // len(self._facts), (begin + most - 1) // len(self._facts) + 1)

    def _arranged(self, begin: int, end: int) -> list[Draw]:
        """Returns the draws of a stretch of the stream, bundle by bundle, the longest first."""
        samples = [self._sample_at(visit) for visit in range(begin, end)]
        return arrange(range(begin, end), samples, lengths=self._lengths, prefixes=self._prefixes, most=self._most)

    def _passes(self, draws: Sequence[Draw]) -> list[tuple[int, int]] | None:
        return cut_into_passes(
            [draw.num_tokens for draw in draws],
            num_passes=self._accumulate * self._world_size,
            limits=self._limits,
            tokens_of=None if self._most == 1 else lambda begin, end: num_tokens(draws[begin:end]),
        )

    def _sample_at(self, position: int) -> int:
        epoch, offset = divmod(position, len(self._facts))
        if epoch not in self._orders:
            order = self._order(epoch)
            coins = generator(self._seed, "buckets", str(epoch))
            # A window touches few epochs at a time; older ones are never asked for again.
            self._orders = {known: self._orders[known] for known in sorted(self._orders)[-2:]}
            bucketed = in_buckets(order, self._lengths, bucket_size=self._bucket_size, rng=coins)
            self._orders[epoch] = drawn_together(bucketed, self._prefixes, most=self._most)
        return int(self._orders[epoch][offset])

    def _order(self, epoch: int) -> SampleOrder:
        if self._balance == "hard":
            assert self._hard is not None, "balance by hardness needs what is known of it"
            return self._hard.order(len(self._facts), seed=self._seed, epoch=epoch)
        return epoch_order(self._groups, balance=self._balance, seed=self._seed, epoch=epoch)


def _require_within_budget(facts: Sequence[SampleFacts], *, token_budget: int) -> None:
    too_long = [fact for fact in facts if token_budget and fact.num_tokens > token_budget]
    if too_long:
        worst = max(too_long, key=lambda fact: fact.num_tokens)
        raise ConfigError(
            f"trainer.token_budget is {token_budget}, and {len(too_long)} of {len(facts)} samples are longer by "
            f"themselves; the longest is {worst.sample_id} with {worst.num_tokens} tokens; allow as many, or show "
            "smaller or fewer views"
        )
