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
        token_budget: samples times the longest of them, padding included; 0 for no limit.
    """

    batch_size: int
    token_budget: int

    def fits(self, num_samples: int, longest: int) -> bool:
        """Returns whether so many samples, padded to the longest, make one pass."""
        return num_samples <= self.batch_size and (not self.token_budget or num_samples * longest <= self.token_budget)


def cut_into_passes(lengths: Sequence[int], *, num_passes: int, limits: PassLimits) -> list[tuple[int, int]] | None:
    """Returns where each pass begins and ends, or None if the samples do not fit.

    Args:
        lengths: tokens of each sample, longest first.
        num_passes: to cut into, all of them filled.
        limits: of each pass.
    """
    if len(lengths) < num_passes:
        return None
    starts = [0]
    for index, length in enumerate(lengths):
        if not limits.fits(index - starts[-1] + 1, lengths[starts[-1]]):
            if not limits.fits(1, length):
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

    def __init__(self, length_at: Callable[[int], int], *, num_passes: int, limits: PassLimits) -> None:
        """Remembers the stream; nothing is cut yet.

        Args:
            length_at: position in the endless stream -> tokens of the sample there, within the limits by itself.
            num_passes: of each window.
            limits: of each pass.
        """
        self._length_at = length_at
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
        lengths = sorted((self._length_at(position) for position in range(start, end)), reverse=True)
        while end < most:
            longer = sorted([*lengths, self._length_at(end)], reverse=True)
            if cut_into_passes(longer, num_passes=self._num_passes, limits=self._limits) is None:
                break
            lengths, end = longer, end + 1
        return end
