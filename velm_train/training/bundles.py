"""Encoded samples go in; which of them may share what they begin with, and who does in a window, come out.

    epoch order:     a1 b1 c1 a2 a3 c2 ...     a, b, c: views; 1, 2, 3: questions about them
    drawn together:  a1 a2 a3 b1 c1 c2 ...     the same draws (`orders.drawn_together`): balance stays what it is
    a pass:          [a1 a2 a3] [c1 c2] [b1]   bundles, the longest first; what members share is computed once

Nothing is drawn here: everything follows from the order, so that a run resumed at any step makes the same bundles.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from velm_train.collation.render import EncodedSample
from velm_train.core.batch import IGNORE_INDEX
from velm_train.core.hashing import sha256_json
from velm_train.core.records import InstructionSample
from velm_train.pipeline.views import view_key


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedPrefix:
    """What a sample begins with and others begin with, too.

    Attributes:
        key: the same for all samples that show the same views in the same words; empty for one that shares nothing.
        num_tokens: leading tokens that all samples of the key have in common, at least as far as their last view.
    """

    key: str
    num_tokens: int


ALONE = SharedPrefix(key="", num_tokens=0)


def shared_prefixes(
    encoded: Sequence[EncodedSample],
    *,
    placeholder_ids: Collection[int],
    view_labels: Callable[[InstructionSample], Sequence[float]],
) -> list[SharedPrefix]:
    """Returns of each sample what it has in common with those that show the same views.

    Args:
        encoded: all training samples.
        placeholder_ids: token ids that views are put in the places of.
        view_labels: what is taught about a sample's views; samples that teach otherwise share nothing.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(encoded):
        members[_key(one, placeholder_ids=placeholder_ids, labels=view_labels(one.sample))].append(number)
    prefixes = [ALONE] * len(encoded)
    for key, numbers in members.items():
        if key and len(numbers) > 1:
            shared = SharedPrefix(key=key, num_tokens=_num_common([encoded[number] for number in numbers]))
            for number in numbers:
                prefixes[number] = shared
    return prefixes


def _key(encoded: EncodedSample, *, placeholder_ids: Collection[int], labels: Sequence[float]) -> str:
    places = [place for place, token_id in enumerate(encoded.input_ids) if token_id in placeholder_ids]
    if not places:
        return ""
    views = [[view.kind, view_key(view)] for view in encoded.sample.views]
    return sha256_json([views, [str(label) for label in labels], list(encoded.input_ids[: places[-1] + 1])])


def _num_common(encoded: Sequence[EncodedSample]) -> int:
    """Returns how many leading tokens are the same in all, none of which carries loss."""
    columns = zip(*(zip(one.input_ids, one.labels, strict=True) for one in encoded), strict=False)
    common = 0
    for column in columns:
        if len({token_id for token_id, _ in column}) > 1 or any(label != IGNORE_INDEX for _, label in column):
            break
        common += 1
    return common


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One visit to a sample, in the window of an optimiser step.

    Attributes:
        visit: its number in the endless stream of all epochs.
        sample: index of the sample.
        num_tokens: of the sample.
        num_shared: leading ones that it shares with the others of its bundle.
        bundle: number of its bundle within the window.
    """

    visit: int
    sample: int
    num_tokens: int
    num_shared: int
    bundle: int


def arrange(
    visits: Sequence[int],
    samples: Sequence[int],
    *,
    lengths: Sequence[int],
    prefixes: Sequence[SharedPrefix],
    most: int,
) -> list[Draw]:
    """Returns the draws of a window in bundles, those of the most tokens first.

    Args:
        visits: in the order of the stream.
        samples: visited.
        lengths: tokens of every sample.
        prefixes: of every sample.
        most: samples of a bundle.
    """
    bundles: list[list[Draw]] = []
    for visit, sample in zip(visits, samples, strict=True):
        prefix = prefixes[sample]
        last = bundles[-1] if bundles else []
        joins = (
            0 < len(last) < most
            and prefix.key != ""
            and prefixes[last[0].sample].key == prefix.key
            and all(one.sample != sample for one in last)
        )
        draw = Draw(
            visit=visit,
            sample=sample,
            num_tokens=lengths[sample],
            num_shared=prefix.num_tokens,
            bundle=len(bundles) - joins,
        )
        if joins:
            last.append(draw)
        else:
            bundles.append([draw])
    return [draw for bundle in sorted(bundles, key=lambda one: -num_tokens(one)) for draw in bundle]


def num_tokens(draws: Sequence[Draw]) -> int:
    """Returns the tokens of neighbouring draws if what is shared is counted once."""
    return sum(one.num_tokens - shared for one, shared in zip(draws, _already_there(draws), strict=True))


def squared_lengths(draws: Sequence[Draw]) -> int:
    """Returns twice the pairs of tokens that attention reads, about the sum of squared lengths if nothing is shared."""
    return sum(one.num_tokens**2 - shared**2 for one, shared in zip(draws, _already_there(draws), strict=True))


def _already_there(draws: Sequence[Draw]) -> list[int]:
    """Returns of each draw how many of its tokens the draw before it has brought."""
    before = [-1, *(one.bundle for one in draws)]
    return [one.num_shared if one.bundle == last else 0 for one, last in zip(draws, before, strict=False)]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleBundle:
    """Neighbouring samples of a forward pass that share what they begin with.

    Attributes:
        num_samples: 1 for a sample by itself.
        num_shared: leading tokens in common; 0 for a sample by itself.
    """

    num_samples: int
    num_shared: int


def bundles_of(draws: Sequence[Draw]) -> tuple[SampleBundle, ...]:
    """Returns the bundles of a pass; one that a pass cuts in two is two."""
    groups = [list(group) for _, group in groupby(draws, key=lambda one: one.bundle)]
    return tuple(
        SampleBundle(num_samples=len(group), num_shared=group[0].num_shared if len(group) > 1 else 0)
        for group in groups
    )
