"""Windows: as many passes as asked for, each within its limits, and as many samples as fit."""

import itertools

import pytest

from velm_train.training.windows import PassLimits, WindowCutter, cut_into_passes

FREE = PassLimits(batch_size=4, token_budget=0)


def best_number_of_passes(lengths: tuple[int, ...], limits: PassLimits) -> int:
    """The fewest passes that any cut of the sorted samples needs, by trying all cuts."""
    n = len(lengths)
    for num_cuts in range(n):
        for cuts in itertools.combinations(range(1, n), num_cuts):
            edges = [0, *cuts, n]
            if all(limits.fits(b - a, (b - a) * lengths[a]) for a, b in itertools.pairwise(edges)):
                return num_cuts + 1
    raise AssertionError("every sample fits by itself")


def test_without_a_budget_passes_are_plain_batches():
    assert cut_into_passes([9, 8, 7, 6, 5, 4, 3, 2], num_passes=2, limits=FREE) == [(0, 4), (4, 8)]


def test_budget_counts_padding():
    limits = PassLimits(batch_size=9, token_budget=20)
    assert cut_into_passes([10, 9, 5, 4, 4, 4], num_passes=2, limits=limits) == [(0, 2), (2, 6)]
    assert cut_into_passes([10, 9, 5, 5, 4, 4, 4], num_passes=2, limits=limits) is None


def test_spare_passes_get_half_of_the_widest():
    assert cut_into_passes([3, 3, 3, 3], num_passes=3, limits=FREE) == [(0, 1), (1, 2), (2, 4)]
    assert cut_into_passes([3, 3], num_passes=3, limits=FREE) is None


def test_sample_that_does_not_fit_by_itself_fits_nowhere():
    assert cut_into_passes([30, 3], num_passes=2, limits=PassLimits(batch_size=2, token_budget=20)) is None


@pytest.mark.parametrize("lengths", [(9, 7, 7, 4, 2, 1), (6, 6, 6, 5, 5), (8, 3, 3, 3, 2, 2, 2), (5, 4, 3, 2, 1)])
def test_no_other_cut_needs_fewer_passes(lengths):
    limits = PassLimits(batch_size=3, token_budget=10)
    fewest = best_number_of_passes(lengths, limits)
    assert cut_into_passes(lengths, num_passes=fewest, limits=limits) is not None
    assert fewest == 1 or cut_into_passes(lengths, num_passes=fewest - 1, limits=limits) is None


def test_windows_follow_each_other_and_are_full():
    lengths = [7, 3, 9, 2, 2, 8, 1, 1, 6, 5] * 5
    limits = PassLimits(batch_size=4, token_budget=12)

    def fits(begin, end):
        window = sorted(lengths[begin:end], reverse=True)
        return cut_into_passes(window, num_passes=2, limits=limits) is not None

    cutter = WindowCutter(fits, num_passes=2, limits=limits)
    ends = [0]
    for step in range(8):
        begin, end = cutter.bounds(step)
        assert begin == ends[-1]
        assert end - begin >= 2
        window = sorted(lengths[begin:end], reverse=True)
        assert cut_into_passes(window, num_passes=2, limits=limits) is not None
        if end - begin < 8:
            one_more = sorted(lengths[begin : end + 1], reverse=True)
            assert cut_into_passes(one_more, num_passes=2, limits=limits) is None
        ends.append(end)
    again = WindowCutter(fits, num_passes=2, limits=limits)
    assert again.bounds(7) == (ends[7], ends[8])
