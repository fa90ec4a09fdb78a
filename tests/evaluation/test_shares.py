"""Images are dealt out so that every one is asked about once, and the order of their rows is known beforehand."""

from dataclasses import replace

import pytest

from velm_train.core.progress import SilentProgress
from velm_train.evaluation.gated import without_pictures
from velm_train.evaluation.runner import order_of_rows, run_evaluation, share_of

TYPES = ("crack", "hole", "good", None)


def run(images, scorer):
    return run_evaluation(
        images, scorer=scorer, hashes={}, on_rows=lambda _: None, done=frozenset(), progress=SilentProgress()
    )


@pytest.fixture
def images(image, question):
    """Nine images, of which every fourth is let pass, with questions of several lengths."""
    lengths = (4, 9, 6, 7, 5, 9, 3, 8, 6)
    return [
        image(f"t/{i}", questions=[question(f"t/{i}", types=TYPES, length=n)])
        if i % 4
        else image(f"t/{i}", flagged=False)
        for i, n in enumerate(lengths)
    ]


@pytest.mark.parametrize("num_shares", [1, 2, 3, 10])
def test_every_image_is_in_one_share(images, num_shares) -> None:
    shares = [share_of(images, number=number, num_shares=num_shares) for number in range(num_shares)]
    ids = [image.image_id for share in shares for image in share]
    assert sorted(ids) == sorted(image.image_id for image in images)
    flagged = [sum(image.decision.pred_label for image in share) for share in shares]
    assert max(flagged) - min(flagged) <= 1


def test_shares_are_of_like_work(images) -> None:
    shares = [share_of(images, number=number, num_shares=2) for number in (0, 1)]
    tokens = [sum(q.num_tokens for image in share for q in image.questions) for share in shares]
    assert tokens == [9 + 8 + 6, 9 + 7 + 3], "9 9 8 7 6 3, dealt out in turn"


def test_one_share_is_all_in_order(images) -> None:
    assert share_of(images, number=0, num_shares=1) == images


def test_images_that_ask_the_very_same_stay_together(images) -> None:
    """A blank picture gives one answer a category, and two processes would round it in two ways."""
    shares = [share_of(without_pictures(images), number=number, num_shares=2) for number in (0, 1)]
    assert sorted(sum(image.decision.pred_label for image in share) for share in shares) == [0, 6]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_the_order_of_rows_is_known_beforehand(images, image, question, counting_model, scorer_of, batch_size) -> None:
    twice = image("t/twice", questions=[question("t/twice", types=TYPES, length=n) for n in (5, 8)])
    images = [*images, twice]
    rows = run(images, scorer_of(counting_model, batch_size=batch_size))
    assert [row.image_id for row in rows] == order_of_rows(images, batch_size=batch_size)


def test_shares_put_together_say_what_one_process_says(images, counting_model, scorer_of) -> None:
    whole = run(images, scorer_of(counting_model))
    parts = [run(share_of(images, number=n, num_shares=2), scorer_of(counting_model)) for n in (0, 1)]
    by_image = {row.image_id: row for part in parts for row in part}
    order = order_of_rows(images, batch_size=2)
    assert [replace(by_image[one], seconds={}) for one in order] == [replace(row, seconds={}) for row in whole]
