"""Which part each training sample shows, and of what kind it is, go in; which samples validate training comes out."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from velm_train.core.errors import ConfigError
from velm_train.core.seeding import generator


def hold_out(groups: Sequence[str], kinds: Sequence[str], *, share: float, seed: int) -> frozenset[int]:
    """Draws whole groups so that nothing of a part is on both sides and every kind gives about its share.

    A part may show several kinds, so that no exact stratification exists. Parts are taken one by one: each time the one
    after which the samples held out of every kind are closest to their share, in the sense of chi-squared, and of equal
    ones the first of a random order. Of every kind something stays to be learned from.

    Args:
        groups: of each sample, the physical part or source image it shows.
        kinds: of each sample, such as category and defect type.
        share: of the groups, 0 to below 1.
        seed: root seed.

    Returns:
        Indices of the samples held out; empty for a share of 0.

    Raises:
        ConfigError: if the share comes to less than one group, or each is the only one of a kind.
    """
    if share == 0:
        return frozenset()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for group, kind in zip(groups, kinds, strict=True):
        counts[group][kind] += 1
    names = sorted(counts)
    left = [names[index] for index in generator(seed, "validation").permutation(len(names))]
    totals = Counter(kinds)
    held: Counter[str] = Counter()
    chosen: set[str] = set()
    for _ in range(round(share * len(names))):
        possible = [group for group in left if all(held[kind] + n < totals[kind] for kind, n in counts[group].items())]
        if not possible:
            break
        best = min(possible, key=lambda group: _distance(held + counts[group], totals, share=share))
        held += counts[best]
        chosen.add(best)
        left.remove(best)
    if not chosen:
        raise ConfigError(
            f"trainer.validation_share={share:g} holds out none of the {len(names)} training parts: allowed are 0, and "
            f"more than {0.5 / len(names):.2g} where some part shows no type that it alone shows; raise protocol.k_shot"
        )
    return frozenset(index for index, group in enumerate(groups) if group in chosen)


def _distance(held: Mapping[str, int], totals: Mapping[str, int], *, share: float) -> float:
    return sum((held.get(kind, 0) - share * total) ** 2 / total for kind, total in totals.items())
