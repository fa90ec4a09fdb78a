"""Blank evidence, and the part of the images that costly rows are scored on."""

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
