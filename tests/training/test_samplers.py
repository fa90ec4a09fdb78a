"""Sample orders: deterministic, balanced, and every window's counts as written out."""

from collections import Counter

import numpy as np
import pytest

from velm_train.core.errors import ConfigError
from velm_train.training.orders import epoch_order, in_buckets
from velm_train.training.samplers import Rank, SampleFacts, SamplePlan

TYPES = ["a"] * 10 + ["b"] * 3 + ["c"] * 1


def facts(lengths, types=None):
    types = types or ["a"] * len(lengths)
    return [
        SampleFacts(
            sample_id="s",
            category="nut",
            false_alarm=False,
            answer_type=name,
            num_tokens=n,
            num_supervised=n % 3 + 1,
            num_scored_views=n % 2,
        )
        for name, n in zip(types, lengths, strict=True)
    ]


def plan(**changes):
    settings = {"batch_size": 2, "accumulate": 2, "balance": "none", "seed": 0, **changes}
    return SamplePlan(facts(range(5, 17)), **settings)


@pytest.mark.parametrize("balance", ["none", "type"])
def test_order_depends_on_seed_and_epoch_alone(balance):
    first = epoch_order(TYPES, balance=balance, seed=0, epoch=1)
    assert np.array_equal(first, epoch_order(TYPES, balance=balance, seed=0, epoch=1))
    assert not np.array_equal(first, epoch_order(TYPES, balance=balance, seed=1, epoch=1))
    assert not np.array_equal(first, epoch_order(TYPES, balance=balance, seed=0, epoch=2))


def test_without_balance_every_sample_comes_once():
    assert sorted(epoch_order(TYPES, balance="none", seed=3, epoch=0)) == list(range(14))


@pytest.mark.parametrize("epoch", range(4))
def test_with_balance_types_differ_by_one_draw_and_samples_of_a_type_by_one(epoch):
    order = epoch_order(TYPES, balance="type", seed=3, epoch=epoch)
    drawn = Counter(order.tolist())
    by_type = Counter(TYPES[i] for i in order)
    assert sorted(by_type.values()) == [4, 5, 5]  # 14 draws over three types
    for name in "abc":
        times = [drawn[i] for i, other in enumerate(TYPES) if other == name]
        assert max(times) - min(times) <= 1


def test_balanced_epochs_reach_every_sample():
    seen = {int(i) for epoch in range(12) for i in epoch_order(TYPES, balance="type", seed=0, epoch=epoch)}
    assert seen == set(range(14))


def test_windows_cut_the_stream_of_epochs_without_gap():
    stream = [i for index in range(12) for i in plan().micro_batch(index).samples]  # two epochs of 12
    assert sorted(stream[:12]) == list(range(12))
    assert sorted(stream[12:]) == list(range(12))


def test_a_micro_batch_does_not_depend_on_those_before_it():
    whole = plan()
    in_order = [whole.micro_batch(index) for index in range(40)]
    assert plan().micro_batch(37) == in_order[37]


def test_window_counts_are_the_sums_over_all_ranks():
    ranks = [plan(rank=Rank(number=number, world_size=2)) for number in range(2)]
    window = [ranks[rank].micro_batch(index) for rank in range(2) for index in (0, 1)]
    members = [i for part in window for i in part.samples]
    assert len(members) == 8
    assert sorted(members) == sorted(epoch_order(["a"] * 12, balance="none", seed=0, epoch=0)[:8].tolist())
    expected = sum((5 + i) % 3 + 1 for i in members)
    assert {part.window_supervised for part in window} == {expected} == {sum(part.num_supervised for part in window)}
    assert {part.window_scored_views for part in window} == {sum((5 + i) % 2 for i in members)}


def test_a_window_is_sorted_by_length_so_that_padding_is_least():
    first, second = plan().micro_batch(0), plan().micro_batch(1)
    lengths = [5 + i for i in (*first.samples, *second.samples)]
    assert lengths == sorted(lengths, reverse=True)
    assert first.num_padded_tokens == 2 * lengths[0]
    assert first.num_useful_tokens == lengths[0] + lengths[1]


def test_position_names_epoch_and_sample():
    assert plan().epoch_position(0) == (0, 0)
    assert plan().epoch_position(4) == (1, 4)  # 16 samples done, 12 in an epoch


def test_no_samples_are_refused():
    with pytest.raises(ConfigError, match="0 samples"):
        SamplePlan([], batch_size=1, accumulate=1, balance="none", seed=0)


def test_groups_are_types_categories_or_gate_outcomes():
    fact = SampleFacts(
        sample_id="s", answer_type="cut", category="nut", false_alarm=True, num_tokens=1, num_supervised=1,
        num_scored_views=0,
    )  # fmt: skip
    assert [fact.group(balance) for balance in ("none", "type", "category", "gate")] == ["", "cut", "nut", "True"]


@pytest.mark.parametrize("world_size", [1, 2])
def test_token_budget_holds_and_windows_leave_no_gap(world_size):
    lengths = [20 + (37 * i) % 91 for i in range(30)]
    budget = 200
    settings = {"batch_size": 6, "accumulate": 2, "balance": "none", "seed": 0, "token_budget": budget}
    places = [Rank(number=number, world_size=world_size) for number in range(world_size)]
    ranks = [SamplePlan(facts(lengths), **settings, rank=rank) for rank in places]
    stream: list[int] = []
    for step in range(12):
        passes = [rank.micro_batch(2 * step + k) for rank in ranks for k in range(2)]
        assert all(1 <= len(one.samples) <= 6 for one in passes)
        assert all(one.num_padded_tokens == len(one.samples) * max(lengths[i] for i in one.samples) for one in passes)
        assert max(one.num_padded_tokens for one in passes) <= budget
        members = [i for one in passes for i in one.samples]
        assert {one.window_supervised for one in passes} == {sum(lengths[i] % 3 + 1 for i in members)}
        assert ranks[0].epoch_position(step) == divmod(len(stream), 30)
        stream += members
    times = Counter(stream)
    assert len(stream) > 30
    assert set(times.values()) <= {len(stream) // 30, len(stream) // 30 + 1}


def test_token_budget_is_used_up_as_far_as_the_next_sample_allows():
    lengths = [10] * 40
    plan = SamplePlan(facts(lengths), batch_size=99, accumulate=1, balance="none", seed=0, token_budget=75)
    assert [len(plan.micro_batch(index).samples) for index in range(5)] == [7] * 5


def test_resumed_plan_with_a_budget_gives_the_same_passes():
    lengths = [20 + (37 * i) % 91 for i in range(30)]
    settings = {"batch_size": 6, "accumulate": 2, "balance": "type", "seed": 0, "token_budget": 200, "bucket_size": 10}
    whole = SamplePlan(facts(lengths), **settings)
    in_order = [whole.micro_batch(index) for index in range(60)]
    assert SamplePlan(facts(lengths), **settings).micro_batch(51) == in_order[51]


def test_sample_over_the_budget_is_named():
    with pytest.raises(ConfigError, match=r"token_budget is 15, and 2 of 3 samples .* longest is s with 40 tokens"):
        SamplePlan(facts([10, 40, 16]), batch_size=2, accumulate=1, balance="none", seed=0, token_budget=15)


def test_buckets_are_permutations_in_which_each_run_goes_one_way():
    lengths = [20 + (37 * i) % 91 for i in range(30)]
    order = epoch_order([""] * 30, balance="none", seed=0, epoch=0)
    bucketed = in_buckets(order, lengths, bucket_size=8, rng=np.random.default_rng(0))
    directions = set()
    for start in range(0, 30, 8):
        run = bucketed[start : start + 8]
        assert sorted(run) == sorted(order[start : start + 8])
        steps = np.diff([lengths[i] for i in run])
        assert (steps >= 0).all() or (steps <= 0).all()
        directions.add(bool((steps >= 0).all()))
    assert directions == {True, False}
    assert in_buckets(order, lengths, bucket_size=0, rng=np.random.default_rng(0)) is order


def test_buckets_save_padding():
    lengths = [20 + (37 * i) % 91 for i in range(240)]

    def padding(bucket_size):
        plan = SamplePlan(facts(lengths), batch_size=8, accumulate=1, balance="none", seed=0, bucket_size=bucket_size)
        passes = [plan.micro_batch(index) for index in range(30)]
        return 1 - sum(one.num_useful_tokens for one in passes) / sum(one.num_padded_tokens for one in passes)

    assert padding(80) < padding(0) / 3
