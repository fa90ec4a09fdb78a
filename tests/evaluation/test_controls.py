"""Blank evidence, and the part of the images that costly rows are scored on."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np

from velm_train.evaluation.controls import blank_lookup, grey_features, stratified_part


def test_blank_is_a_mid_grey_picture_with_an_empty_map(counting_model):
    blank = grey_features(counting_model, size_hw=(6, 8))
    (picture,) = counting_model.pictures
    assert picture.shape == (6, 8, 3)
    assert np.unique(picture).tolist() == [128]
    assert blank.grid_hw.tolist() == [[1, 2]]
    assert not blank.map_scores.any()
    assert blank.gt_scores is not None
    assert blank.gt_scores.isnan().all()


def test_every_view_is_answered_with_a_blank_of_its_size_which_is_encoded_once(counting_model, question):
    view = question("t/0", types=("crack",)).prompt.sample.views[0]
    wider = replace(view, box_xyxy=(1, 2, 11, 8))
    lookup = blank_lookup(counting_model)
    assert lookup(view) is lookup(view)
    lookup(wider)
    assert [picture.shape for picture in counting_model.pictures] == [(6, 8, 3), (6, 10, 3)]


COUNTS = {
    ("tile", "crack", True): 24,
    ("tile", "crack", False): 8,
    ("tile", "hole", True): 12,
    ("tile", "hole", False): 4,
    ("wood", "knot", True): 4,
    ("wood", "good", True): 8,
    ("wood", "good", False): 36,
}


def counted(images):
    return Counter((entry.category, entry.gt_defect_type, entry.decision.pred_label) for entry in images)


def many(image, counts):
    return [
        image(f"{category}/{kind}/{flagged}/{i}", gt=kind, flagged=flagged, category=category)
        for (category, kind, flagged), count in counts.items()
        for i in range(count)
    ]


def test_part_has_every_type_flagged_and_passed_in_its_share(image):
    images = many(image, COUNTS)
    part = stratified_part(images, max_flagged=12, seed=0)  # a quarter of the 48 flagged ones
    assert counted(part) == {key: count // 4 for key, count in COUNTS.items()}
    assert [entry for entry in images if entry in part] == part
    assert part == stratified_part(images, max_flagged=12, seed=0)
    assert part == [entry for entry in images if entry in stratified_part(images[::-1], max_flagged=12, seed=0)]
    assert part != stratified_part(images, max_flagged=12, seed=1)


def test_shares_that_are_no_whole_numbers_are_met_to_within_one_image(image):
    counts = {
        ("tile", "crack", True): 7,
        ("tile", "hole", True): 5,
        ("wood", "knot", True): 1,
        ("wood", "good", True): 4,
        ("tile", "crack", False): 3,
        ("wood", "knot", False): 2,
        ("wood", "good", False): 9,
    }
    images = many(image, counts)
    for seed in range(20):
        part = counted(stratified_part(images, max_flagged=5, seed=seed))
        assert sum(count for (_, _, flagged), count in part.items() if flagged) == 5
        assert sum(count for (_, _, flagged), count in part.items() if not flagged) == 4  # 14 * 5 / 17 = 4.1
        for key, count in counts.items():
            share = count * 5 / 17 if key[2] else count * 4 / 14
            assert math.floor(share) <= part[key] <= math.ceil(share)
        missed = sum(count for (_, kind, flagged), count in part.items() if not flagged and kind != "good")
        assert missed in (1, 2)  # 5 * 4 / 14 = 1.4
        assert part["tile", "crack", True] + part["tile", "hole", True] in (3, 4)  # 12 * 5 / 17 = 3.5


def test_every_image_is_as_likely_in_the_part(image):
    images = many(image, {("tile", "crack", True): 5, ("tile", "hole", True): 1, ("wood", "knot", True): 2})
    drawn = Counter(
        entry.image_id for seed in range(400) for entry in stratified_part(images, max_flagged=2, seed=seed)
    )
    assert sum(drawn.values()) == 800
    # a quarter of 400 draws, give or take 4 standard deviations of sqrt(400 / 4 * 3 / 4)
    assert all(abs(drawn[entry.image_id] - 100) < 35 for entry in images)


def test_part_of_flagged_images_alone_is_drawn_from_the_flagged_ones(image):
    images = many(image, {("tile", "crack", True): 6, ("tile", "hole", True): 3})
    assert counted(stratified_part(images, max_flagged=3, seed=4)) == {
        ("tile", "crack", True): 2,
        ("tile", "hole", True): 1,
    }


def test_part_of_few_images_is_all_of_them(image):
    images = [image(f"t/{i}") for i in range(3)]
    assert stratified_part(images, max_flagged=0, seed=0) == images
    assert stratified_part(images, max_flagged=3, seed=0) == images
