"""Blank evidence, and the part of the images that costly rows are scored on."""

from collections import Counter

import numpy as np

from velm_train.evaluation.controls import blank_lookup, grey_features, stratified_part


def test_blank_is_a_mid_grey_picture_with_an_empty_map(counting_model, question):
    blank = grey_features(counting_model, size_hw=(6, 8))
    (picture,) = counting_model.pictures
    assert picture.shape == (6, 8, 3)
    assert np.unique(picture).tolist() == [128]
    assert blank.grid_hw == (1, 2)
    assert not blank.map_scores.any()
    view = question("t/0", types=("crack",)).prompt.sample.views[0]
    assert blank_lookup(blank)(view) is blank


def test_part_keeps_stopped_images_and_every_type(image):
    images = [image(f"t/{i}", gt="crack") for i in range(20)]
    images += [image(f"u/{i}", gt="hole") for i in range(2)] + [image("v/0", gt="good", flagged=False)]
    part = stratified_part(images, max_flagged=6, seed=0)
    flagged = Counter(entry.gt_defect_type for entry in part if entry.decision.pred_label)
    assert flagged == {"crack": 4, "hole": 2}
    assert part[-1].image_id == "v/0"
    assert part == stratified_part(images, max_flagged=6, seed=0)
    assert part != stratified_part(images, max_flagged=6, seed=1)


def test_part_of_few_images_is_all_of_them(image):
    images = [image(f"t/{i}") for i in range(3)]
    assert stratified_part(images, max_flagged=0, seed=0) == images
    assert stratified_part(images, max_flagged=3, seed=0) == images
