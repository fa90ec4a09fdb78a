"""Lengths of samples in the order drawn go in; how many make one optimiser step, and one forward pass, comes out.

    stream:   | 310 290 640 120 | 300 300 280 ... |        one window an optimiser step
    passes:   [640] [310 290] [120]                        longest first, as many in every window

With a token budget, a window takes samples as long as they fit into its forward passes, so that passes of short
samples hold more of them. Every window has the same number of passes, whatever the number of ranks, and no pass is
empty: no rank ever waits for another one's last batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True, slots=True)
class PassLimits:
    """What one forward pass may hold.

    Attributes:
        batch_size: samples, 1 or more.
        token_budget: samples times the longest of them, padding included, or the tokens computed where what samples
            share is computed once; 0 for no limit.
    """

    batch_size: int
    token_budget: int

    def fits(self, num_samples: int, num_tokens: int) -> bool:
        """Returns whether so many samples, which take so many tokens together, make one pass."""
        return num_samples <= self.batch_size and (not self.token_budget or num_tokens <= self.token_budget)


def cut_into_passes(
    lengths: Sequence[int],
    *,
    num_passes: int,
    limits: PassLimits,
    tokens_of: Callable[[int, int], int] | None = None,
) -> list[tuple[int, int]] | None:
    """Returns where each pass begins and ends, or None if the samples do not fit.

    Args:
        lengths: tokens of each sample, longest first; with `tokens_of` in any order.
        num_passes: to cut into, all of them filled.
        limits: of each pass.
        tokens_of: places where a pass begins and ends -> its tokens, never more for a part of it; None for samples
            padded to the longest.
    """

    def fits(begin: int, end: int) -> bool:
        num_tokens = (end - begin) * lengths[begin] if tokens_of is None else tokens_of(begin, end)
        return limits.fits(end - begin, num_tokens)

    if len(lengths) < num_passes:
        return None
    starts = [0]
    for index in range(len(lengths)):
        if not fits(starts[-1], index + 1):
            if not fits(index, index + 1):
                return None
            starts.append(index)
    if len(starts) > num_passes:
        return None
    passes = list(pairwise([*starts, len(lengths)]))
    while len(passes) < num_passes:
        # The pass with the most samples is halved: each half is within the limits, and the work is spread.
        widest = max(range(len(passes)), key=lambda i: passes[i][1] - passes[i][0])
        begin, end = passes[widest]
        middle = (begin + end) // 2
        passes[widest : widest + 1] = [(begin, middle), (middle, end)]
    return passes


class WindowCutter:
    """Cuts the stream of samples into windows, in order, and remembers where each began.

    Where a window ends depends on the samples before it alone, so that a run resumed at any step cuts the same ones.
    """

    def __init__(self, fits: Callable[[int, int], bool], *, num_passes: int, limits: PassLimits) -> None:
        """Remembers the stream; nothing is cut yet.

        Args:
            fits: whether the samples from one position of the endless stream to another make a window; asked under a
                token budget alone. As many samples as there are passes always do.
            num_passes: of each window.
            limits: of each pass.
        """
        self._fits = fits
        self._num_passes = num_passes
        self._limits = limits
        self._ends = [0]

    def bounds(self, step: int) -> tuple[int, int]:
        """Returns where the window of an optimiser step begins and ends in the stream."""
        if not self._limits.token_budget:
            size = self._num_passes * self._limits.batch_size
            return step * size, (step + 1) * size
        while len(self._ends) < step + 2:
            self._ends.append(self._end_of_window(self._ends[-1]))
        return self._ends[step], self._ends[step + 1]

    def _end_of_window(self, start: int) -> int:
        most = start + self._num_passes * self._limits.batch_size
        end = start + self._num_passes
        while end < most and self._fits(start, end + 1):
            end += 1
        return end
