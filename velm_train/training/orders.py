"""What samples count as, their lengths and what they share go in; the order in which an epoch visits them comes out."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from velm_train.core.seeding import generator
from velm_train.training.balance import Balance
from velm_train.training.bundles import SharedPrefix

SampleOrder = Int[np.ndarray, " n"]


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


def drawn_together(order: SampleOrder, prefixes: Sequence[SharedPrefix], *, most: int) -> SampleOrder:
    """Returns the draws of an epoch, those that can share drawn one after another.

    Args:
        order: sample indices; one that comes twice stays in two bundles.
        prefixes: of every sample.
        most: samples of a bundle; 1 changes nothing.
    """
    if most == 1:
        return order
    samples = order.tolist()
    waiting: dict[str, list[int]] = defaultdict(list)
    for place in reversed(range(len(samples))):
        waiting[prefixes[samples[place]].key].append(place)  # the next one last
    taken: set[int] = set()
    together: list[int] = []
    for place, sample in enumerate(samples):
        if place in taken:
            continue
        members, passed_over = [sample], []
        queue = waiting[prefixes[sample].key]
        while prefixes[sample].key and queue and len(members) < most:
            later = queue.pop()
            if later <= place:
                continue
            if samples[later] in members:
                passed_over.append(later)
                continue
            members.append(samples[later])
            taken.add(later)
        queue.extend(reversed(passed_over))
        together += members
    return np.array(together, dtype=order.dtype)
