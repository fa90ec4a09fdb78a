"""What the frozen towers say about a view is computed once, and read back as it was."""

import dataclasses

import numpy as np
import pytest
import torch

from velm_train.core.errors import DataError
from velm_train.core.images import read_rgb
from velm_train.instructions.views import NO_CONTOUR, make_view
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.pipeline.views import render_view, view_key


def test_reader_gives_what_the_towers_say_to_float16_precision(encode, model, query, crop, outlined) -> None:
    reader = encode({"felt, test": [query, crop, outlined]})
    for view in (query, crop, outlined):
        direct = model.encode_views([render_view(view, contour_width_px=2)])
        found = reader(view)
        assert (found.final.dtype, found.levels.dtype) == (torch.float16, torch.float16)
        assert found.grid_hw.tolist() == [[2, 2]]
        assert found.tile_xyxy is None
        torch.testing.assert_close(found.final.float(), direct.final, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(found.levels.float(), direct.levels, rtol=2e-3, atol=2e-3)


def test_map_scores_are_in_units_of_the_pixel_threshold(encode, query, detections, gates) -> None:
    """The grid of a whole image is 2 x 2: each token is the mean of a quarter of the map."""
    found = encode({"felt, test": [query]})(query)
    anomaly_map = detections["felt"].detections[query.image_id].anomaly_map.astype(np.float64)
    rows, columns = anomaly_map.shape
    assert (rows % 2, columns % 2) == (0, 0)
    quarters = anomaly_map.reshape(2, rows // 2, 2, columns // 2).mean(axis=(1, 3)) / gates["felt"].pixel_threshold
    np.testing.assert_allclose(found.map_scores[0], quarters.reshape(-1), rtol=1e-5)
    assert found.map_scores.argmax() == 1  # the spot is in the upper right quarter


def test_ground_truth_is_the_share_of_each_token_that_the_masks_cover(encode, told, query, crop, parts) -> None:
    """The picture is 72 x 96, the spot covers columns 60 to 77 and rows 12 to 29: all in the upper right quarter."""
    normal = make_view("query", parts.one("felt", "test/good/000.png"), box_xyxy=None, contour=NO_CONTOUR)
    reader = encode({"felt, test": [query, crop, normal]}, told=told)
    assert reader(query).gt_scores.tolist() == [pytest.approx([0.0, 18 * 18 / (36 * 48), 0.0, 0.0])]
    # The crop takes columns 50 to 85 and rows 8 to 39, so its tokens are 18 wide and 16 high, from (50, 8) on.
    shares = [8 * 12, 10 * 12, 8 * 6, 10 * 6]
    assert reader(crop).gt_scores.tolist() == [pytest.approx([share / (18 * 16) for share in shares])]
    assert reader(normal).gt_scores.tolist() == [[0.0] * 4]


def test_defect_that_nobody_has_outlined_is_unknown(encode, told, query) -> None:
    blind = {
        key: dataclasses.replace(source, gt_record=dataclasses.replace(source.gt_record, gt_mask_paths=()))
        for key, source in told.items()
    }
    assert encode({"felt, test": [query]}, told=blind)(query).gt_scores.isnan().all()


def test_ground_truth_is_out_of_reach_unless_a_run_is_given_leave(encode, told, query, monkeypatch) -> None:
    def refuse(*arguments: object, **named: object) -> object:
        raise AssertionError("a mask was read")

    with monkeypatch.context() as patch:
        patch.setattr("velm_train.pipeline.views.read_gt_masks", refuse)
        reader = encode({"felt, test": [query]})
    assert reader(query).gt_scores is None
    assert reader.gt_identity is None
    again = encode({"felt, test": [query]}, told=told)
    assert again.gt_identity is not None
    assert torch.equal(reader(query).final, again(query).final)


def test_ground_truth_is_no_part_of_the_artefact_and_has_an_identity_of_its_own(
    encode, told, query, crop, store
) -> None:
    first = encode({"felt, test": [query]}, told=told)
    encode({"felt, test": [query]})
    assert len(list(store.root.glob("features/*"))) == 1
    assert first.gt_identity == encode({"felt, test": [query]}, told=told).gt_identity
    assert first.gt_identity != encode({"felt, test": [query, crop]}, told=told).gt_identity


def test_maps_of_all_images_are_out_of_sample_those_of_training_included(sources, parts) -> None:
    """What the look-twice adapter and the language model learn to trust was made without the image itself."""
    assert set(sources) == {record.image_id for record in parts.records}
    assert all(source.detection.out_of_sample for source in sources.values())
    fitted = sources["parts/felt/train/good/000.png"]
    in_sample = dataclasses.replace(fitted.detection, out_of_sample=False)
    with pytest.raises(DataError, match=r"000\.png: the detector was fitted on this image"):
        dataclasses.replace(fitted, detection=in_sample)


def test_map_of_a_fitted_image_is_not_the_one_that_the_fitted_detector_would_give(sources, parts, new_detector) -> None:
    """In-sample distances are near zero where the bank holds the image's own patches."""
    normals = [parts.one("felt", f"train/good/00{number}.png") for number in range(4)]
    images, image_ids = [read_rgb(one.image_path) for one in normals], [one.image_id for one in normals]
    detector = new_detector()
    detector.fit(images, image_ids=image_ids, group_ids=image_ids)
    in_sample = [one.anomaly_score for one in detector.detect(images, image_ids=image_ids)]
    out_of_sample = [sources[image_id].detection.anomaly_score for image_id in image_ids]
    assert all(inside < outside for inside, outside in zip(in_sample, out_of_sample, strict=True))


def test_repeated_views_are_encoded_once(encode, model, query, crop, monkeypatch) -> None:
    encoded: list[int] = []
    plain = type(model).encode_views

    def counting(self: EmbeddedVLM, views: list[np.ndarray]) -> object:
        encoded.append(len(views))
        return plain(self, views)

    monkeypatch.setattr(type(model), "encode_views", counting)
    reader = encode({"felt, test": [query, crop, query, dataclasses.replace(query, kind="reference"), crop]})
    assert encoded == [1, 2]  # one to know how wide features are, before the first is written
    assert torch.equal(reader(query).final, reader(dataclasses.replace(query, kind="reference")).final)


def test_second_call_runs_no_tower_and_says_so(encode, model, query, crop, progress, monkeypatch) -> None:
    first = encode({"felt, test": [query], "felt, training": [crop]})

    def refuse(self: EmbeddedVLM, views: list[np.ndarray]) -> object:
        raise AssertionError("a tower ran again")

    monkeypatch.setattr(type(model), "encode_views", refuse)
    second = encode({"felt, test": [query], "felt, training": [crop]})
    assert [note.split(":")[0] for note in progress.notes] == ["features of felt, test", "features of felt, training"]
    for view in (query, crop):
        assert torch.equal(first(view).final, second(view).final)
        assert torch.equal(first(view).map_scores, second(view).map_scores)
        assert first.seconds(view) == second.seconds(view) > 0


def test_another_view_in_one_set_leaves_the_other_sets_alone(encode, query, crop, outlined, progress) -> None:
    encode({"felt, test": [query], "felt, training": [crop]})
    encode({"felt, test": [query, outlined], "felt, training": [crop]})
    assert [note.split(":")[0] for note in progress.notes] == ["features of felt, training"]


def test_contour_is_drawn_before_the_cut_and_changes_the_features(encode, query, outlined) -> None:
    plain = read_rgb(query.image_path)
    drawn = render_view(outlined, contour_width_px=2)
    assert np.array_equal(render_view(query, contour_width_px=2), plain)
    assert drawn.shape == plain.shape
    assert np.array_equal(drawn[12, 60:78], np.tile([255, 0, 0], (18, 1)))
    assert np.array_equal(drawn[50:, :40], plain[50:, :40])
    assert view_key(query) != view_key(outlined)
    reader = encode({"felt, test": [query, outlined]})
    assert not torch.equal(reader(query).final, reader(outlined).final)
    assert torch.equal(reader(query).map_scores, reader(outlined).map_scores)


def test_wider_contour_is_another_artefact(encode, outlined, store) -> None:
    narrow = encode({"felt, test": [outlined]}, contour_width_px=1)
    wide = encode({"felt, test": [outlined]}, contour_width_px=4)
    assert len(list(store.root.glob("features/*"))) == 2
    assert not torch.equal(narrow(outlined).final, wide(outlined).final)


def test_crop_is_the_part_in_the_box(crop) -> None:
    assert np.array_equal(render_view(crop, contour_width_px=2), read_rgb(crop.image_path)[8:40, 50:86])


def test_unknown_view_is_no_silent_zero(encode, query, crop) -> None:
    with pytest.raises(KeyError):
        encode({"felt, test": [query]})(crop)


def test_evidence_of_one_view_does_not_depend_on_its_neighbours(model, query, crop, outlined) -> None:
    pictures = [render_view(view, contour_width_px=2) for view in (query, crop, outlined)]
    together, alone = model.encode_views(pictures), model.encode_views(pictures[1:2])
    torch.testing.assert_close(together.final[1:2], alone.final, rtol=1e-3, atol=1e-3)
