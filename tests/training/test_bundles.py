"""Who may share what it begins with, how draws come together, and what a bundle costs, written out."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from velm_train.collation.render import EncodedSample
from velm_train.core.batch import IGNORE_INDEX
from velm_train.core.records import InstructionSample, Message, View
from velm_train.training.bundles import (
    ALONE,
    SharedPrefix,
    arrange,
    bundles_of,
    num_tokens,
    shared_prefixes,
    squared_lengths,
)
from velm_train.training.orders import drawn_together
from velm_train.training.samplers import SampleFacts, SamplePlan

IMAGE = 99
A, B = SharedPrefix(key="a", num_tokens=4), SharedPrefix(key="b", num_tokens=6)


def encoded(ids, *, box=(0, 0, 4, 3), labels=None, views=1):
    view = View(
        kind="crop",
        image_id="brick/1.png",
        image_path=Path("1.png"),
        sha256="ab",
        box_xyxy=box,
        contour=np.zeros((0, 2), dtype=np.int32),
    )
    sample = InstructionSample(
        sample_id="s",
        image_id="brick/1.png",
        category="brick",
        task="name_type",
        views=(view,) * views,
        messages=(Message(role="user", text="<image>" * views),),
        target="cut",
        options=(),
        provenance={},
    )
    targets = [IGNORE_INDEX] * (len(ids) - 2) + list(ids[-2:]) if labels is None else labels
    return EncodedSample(input_ids=tuple(ids), labels=tuple(targets), sample=sample)


def prefixes_of(*samples, labels=lambda _: (1.0,)):
    return shared_prefixes(samples, placeholder_ids={IMAGE}, view_labels=labels)


def test_samples_share_the_longest_beginning_that_all_of_the_same_views_have():
    found = prefixes_of(
        encoded([1, IMAGE, IMAGE, 5, 6, 7, 8]),
        encoded([1, IMAGE, IMAGE, 5, 6, 9, 8, 8]),
        encoded([1, IMAGE, IMAGE, 5, 4, 4, 3]),
    )
    assert [one.num_tokens for one in found] == [4, 4, 4]
    assert len({one.key for one in found}) == 1


@pytest.mark.parametrize(
    "other",
    [
        encoded([1, IMAGE, IMAGE, 5, 6, 7, 8], box=(0, 0, 4, 2)),  # another part of the picture
        encoded([2, IMAGE, IMAGE, 5, 6, 7, 8]),  # other words in front of it
        encoded([1, IMAGE, 5, IMAGE, 5, 6, 7, 8], views=2),
        encoded([1, 5, 6, 7, 8], views=0),
    ],
)
def test_samples_of_other_views_or_words_share_nothing(other):
    assert prefixes_of(encoded([1, IMAGE, IMAGE, 5, 6, 7, 8]), other) == [ALONE, ALONE]


def test_samples_that_teach_otherwise_about_a_view_share_nothing():
    values = iter([(1.0,), (0.0,)])
    same = encoded([1, IMAGE, 5, 6, 7])
    assert prefixes_of(same, same, labels=lambda _: next(values)) == [ALONE, ALONE]


def test_tokens_that_carry_loss_are_never_shared():
    same = encoded([1, IMAGE, 5, 6, 7])
    assert [one.num_tokens for one in prefixes_of(same, same)] == [3, 3]


def test_samples_without_a_view_share_nothing_though_they_are_alike():
    words = encoded([1, 5, 6, 7], views=0)
    assert prefixes_of(words, words) == [ALONE, ALONE]


def test_draws_that_can_share_come_together_up_to_the_most_and_none_is_lost():
    prefixes = [A, B, ALONE, A, A, B, A]
    order = np.array([2, 0, 1, 3, 2, 4, 5, 6])
    assert drawn_together(order, prefixes, most=3).tolist() == [2, 0, 3, 4, 1, 5, 2, 6]
    assert drawn_together(order, prefixes, most=1) is order


def test_a_sample_drawn_twice_is_in_two_bundles():
    prefixes = [A, A, A]
    assert drawn_together(np.array([0, 0, 1, 2]), prefixes, most=3).tolist() == [0, 1, 2, 0]
    assert drawn_together(np.array([0, 0, 0]), prefixes, most=3).tolist() == [0, 0, 0]


def test_a_window_lies_in_bundles_those_of_the_most_tokens_first():
    lengths, prefixes = [10, 9, 7, 8, 30], [A, A, A, B, ALONE]
    draws = arrange(range(50, 56), [0, 1, 2, 3, 4, 0], lengths=lengths, prefixes=prefixes, most=3)
    # 0, 1 and 2 share 4 tokens: 4 + 6 + 5 + 3 = 18; the second visit to 0 comes behind others, by itself.
    assert [draw.visit for draw in draws] == [54, 50, 51, 52, 55, 53]
    assert [one.num_samples for one in bundles_of(draws)] == [1, 3, 1, 1]
    assert [one.num_shared for one in bundles_of(draws)] == [0, 4, 0, 0]
    assert num_tokens(draws) == 30 + 18 + 10 + 8
    assert squared_lengths(draws) == 30**2 + (10**2 + 9**2 - 4**2 + 7**2 - 4**2) + 10**2 + 8**2


def test_a_bundle_that_a_pass_cuts_is_two():
    draws = arrange(range(3), [0, 1, 2], lengths=[10, 9, 7], prefixes=[A, A, A], most=3)
    assert num_tokens(draws[:2]) + num_tokens(draws[2:]) == (4 + 6 + 5) + 7
    assert bundles_of(draws[2:])[0].num_shared == 0


def facts(number_of_images, questions):
    """Image i is asked about `questions` times, in samples of 100 + question tokens, 90 of them the same."""
    return [
        SampleFacts(
            sample_id=f"{image}/{question}",
            category="nut",
            false_alarm=False,
            answer_type="abc"[image % 3],
            num_tokens=100 + question,
            num_supervised=2,
            num_scored_views=1,
            prefix=SharedPrefix(key=str(image), num_tokens=90),
        )
        for image in range(number_of_images)
        for question in range(questions)
    ]


def plan_of(**changes):
    settings = {"batch_size": 8, "accumulate": 2, "balance": "type", "seed": 0, "bundle_size": 4}
    return SamplePlan(facts(7, 5), **(settings | changes))


def test_epochs_hold_the_same_samples_whether_they_share_or_not():
    sharing, plain = plan_of(batch_size=5, accumulate=1), plan_of(batch_size=5, accumulate=1, bundle_size=None)
    for epoch in range(3):
        passes = range(7 * epoch, 7 * epoch + 7)
        drawn = [Counter(i for index in passes for i in plan.micro_batch(index).samples) for plan in (sharing, plain)]
        assert drawn[0] == drawn[1]


def test_bundles_cover_each_pass_and_members_show_the_same_image_each_once():
    plan = plan_of()
    sizes = Counter()
    for index in range(30):
        passed = plan.micro_batch(index)
        assert sum(bundle.num_samples for bundle in passed.bundles) == len(passed.samples) == 8
        start = 0
        for bundle in passed.bundles:
            members = passed.samples[start : start + bundle.num_samples]
            start += bundle.num_samples
            assert len({member // 5 for member in members}) == 1
            assert len(set(members)) == len(members) <= 4
            assert bundle.num_shared == (90 if len(members) > 1 else 0)
            sizes[len(members)] += 1
        shared = sum(90 * (bundle.num_samples - 1) for bundle in passed.bundles)
        assert passed.num_useful_tokens == sum(100 + i % 5 for i in passed.samples) - shared
        assert passed.num_padded_tokens == passed.num_useful_tokens
    assert sizes[4] > sizes[1]  # sharing is the rule


def test_a_plan_that_shares_does_not_depend_on_the_passes_before():
    whole = plan_of(token_budget=400, bucket_size=6)
    in_order = [whole.micro_batch(index) for index in range(24)]
    assert plan_of(token_budget=400, bucket_size=6).micro_batch(19) == in_order[19]


def test_a_token_budget_counts_what_is_shared_once():
    plan = plan_of(token_budget=400, batch_size=20, accumulate=1)
    passes = [plan.micro_batch(index) for index in range(12)]
    assert max(one.num_useful_tokens for one in passes) <= 400
    # Side by side no pass could hold more than 3 samples of 100 tokens or more.
    assert sum(len(one.samples) for one in passes) / len(passes) > 6


def test_windows_are_the_same_in_rows_as_in_padded_passes_unless_something_is_shared():
    rows, padded = plan_of(bundle_size=1), plan_of(bundle_size=None)
    for index in range(10):
        one, other = rows.micro_batch(index), padded.micro_batch(index)
        assert (one.samples, one.num_useful_tokens) == (other.samples, other.num_useful_tokens)
        assert one.num_padded_tokens == one.num_useful_tokens <= other.num_padded_tokens
