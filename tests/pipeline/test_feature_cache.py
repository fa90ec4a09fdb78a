"""Features are stored where they may and fit, encoded live elsewhere, and are the same numbers either way."""

import dataclasses
import errno
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from velm_train.core.appearance import Appearance
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.errors import DiskFullError
from velm_train.core.progress import SilentProgress
from velm_train.core.records import View
from velm_train.pipeline import views as view_module
from velm_train.pipeline.augmentation import shown_view
from velm_train.pipeline.feature_files import FeatureWriter
from velm_train.pipeline.features import build_features
from velm_train.pipeline.live_features import BYTES_PER_TOKEN, LiveFeatures, ViewEncoder
from velm_train.pipeline.views import view_key

EIGHT = [Appearance(mirrored=mirrored, quarter_turns=turns) for mirrored in (False, True) for turns in range(4)]


@pytest.fixture
def encoder(model, sources) -> ViewEncoder:
    return ViewEncoder(tower=model, map_sources=sources, contour_width_px=2, batch_size=2)


@pytest.fixture
def count_reads(monkeypatch) -> Callable[[], int]:
    """Returns a function that tells how many images were read so far."""
    read: list[Path] = []
    plain = view_module.read_rgb

    def counting(path: Path) -> np.ndarray:
        read.append(path)
        return plain(path)

    monkeypatch.setattr(view_module, "read_rgb", counting)
    return lambda: len(read)


def same(found: object, expected: object) -> None:
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert (one is None and other is None) or (one.dtype == other.dtype and torch.equal(one, other)), field.name


def with_little_room(monkeypatch, *, free_bytes: int) -> None:
    plain = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: plain(path)._replace(free=free_bytes))


def folders(store: ArtifactStore) -> list[str]:
    return sorted(path.name for path in store.root.glob("features/*"))


def test_live_features_are_those_on_disk_bit_by_bit_if_encoded_beside_the_same_views(
    encode, told, query, crop, outlined
) -> None:
    """Batches of two, in the order of the views, on both sides; masks included."""
    views = [query, crop, outlined]
    stored, live = (encode({"felt, test": views}, told=told, cache=cache) for cache in ("on", "off"))
    ahead = live.ahead(views)
    for view in views:
        same(ahead(view), stored(view))
    assert live.gt_identity == stored.gt_identity is not None


def test_beside_other_views_they_differ_by_rounding_alone(encode, query, crop, outlined) -> None:
    stored, live = (encode({"felt, test": [query, crop, outlined]}, cache=cache) for cache in ("on", "off"))
    for view in (query, crop, outlined):
        torch.testing.assert_close(live(view).final.float(), stored(view).final.float(), rtol=2e-3, atol=2e-3)


def test_off_neither_writes_nor_reads_the_store(encode, query, store, count_reads) -> None:
    encode({"felt, test": [query]}, cache="on")
    shutil.rmtree(store.root)
    reader = encode({"felt, test": [query]}, cache="off")
    assert not store.root.exists()
    before = count_reads()
    reader(query)
    reader(query)
    assert count_reads() == before + 2


def test_stored_features_read_no_image(encode, query, crop, count_reads) -> None:
    encode({"felt, test": [query, crop]})
    before = count_reads()
    reader = encode({"felt, test": [query, crop]})
    for _ in range(2):
        for view in (query, crop):
            reader.ahead([query, crop])(view)
    assert count_reads() == before


def test_views_that_are_not_on_disk_are_encoded_together_and_once(encode, model, query, crop, outlined, monkeypatch):
    reader = encode({"felt, test": [query]}, any_view=True)
    encoded: list[int] = []
    plain = type(model).encode_views

    def counting(self: object, views: Sequence[np.ndarray]) -> object:
        encoded.append(len(views))
        return plain(self, views)

    monkeypatch.setattr(type(model), "encode_views", counting)
    ahead = reader.ahead([query, crop, outlined, crop])
    assert encoded == [2]
    assert ahead(query).final.shape == ahead(crop).final.shape == ahead(outlined).final.shape
    assert encoded == [2]
    assert reader.seconds(crop) > 0


def test_seconds_of_a_view_that_was_never_encoded_are_measured(encode, query) -> None:
    assert encode({"felt, test": [query]}, cache="off").seconds(query) > 0


@pytest.mark.parametrize("appearance", EIGHT, ids=str)
def test_map_and_masks_of_a_moved_view_are_those_of_the_view_moved(
    appearance: Appearance, encode, told, outlined, parts
) -> None:
    """On a grid of 2 x 2 tokens; features are those of another picture, scores those of the same places."""
    crop = dataclasses.replace(outlined, box_xyxy=(40, 4, 90, 40))
    moved = shown_view(crop, appearance, size_hw=parts.one("felt", "test/spot/001.png").size_hw)
    reader = encode({"felt, test": [crop]}, told=told, any_view=True)
    plain, shown = reader(crop), reader(moved)
    for name in ("map_scores", "gt_scores"):
        expected = appearance.plane(getattr(plain, name).numpy().reshape(2, 2)).reshape(1, 4)
        np.testing.assert_allclose(getattr(shown, name).numpy(), expected, rtol=1e-4, atol=1e-6)
    assert len(set(plain.gt_scores.flatten().tolist())) > 2
    assert view_key(moved) == view_key(crop) or not torch.equal(plain.final, shown.final)


def test_size_is_known_before_the_first_byte_is_written(encoder, encode, query, crop, outlined, store) -> None:
    views = [query, crop, outlined]
    expected = encoder.stored_bytes(views)
    encode({"felt, test": views})
    (folder,) = store.root.glob("features/*")
    large = sum((folder / name).stat().st_size for name in ("final.bin", "levels.bin"))
    assert expected == large + 3 * 4 * BYTES_PER_TOKEN  # three views of 2 x 2 tokens
    # 320 + 448 + 640 + 384 numbers of the final features, 2 x 384 of the levels, two bytes each
    assert large == 3 * 4 * (1792 + 768) * 2


def test_disk_without_room_is_no_reason_to_stop_unless_they_must_be_stored(
    encode, query, crop, store, progress, monkeypatch
) -> None:
    encode({"felt, test": [query]})
    with_little_room(monkeypatch, free_bytes=10**6)
    both = {"felt, test": [query], "felt, training": [crop]}
    with pytest.raises(DiskFullError, match="disk nearly full"):
        encode(both, cache="on")
    reader = encode(both, cache="auto")
    assert progress.notes[-2].startswith(
        "features are not stored, and views encoded anew whenever they are shown: disk"
    )
    assert progress.notes[-1].startswith("features of felt, test: reused")  # what is there is used
    assert len(folders(store)) == 1
    assert reader(crop).final.shape == reader(query).final.shape


def fail_at_the_third_view(monkeypatch) -> None:
    plain = FeatureWriter.append
    written: list[str] = []

    def append(self: FeatureWriter, key: str, view: object) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(key)
        plain(self, key, view)

    monkeypatch.setattr(FeatureWriter, "append", append)


@pytest.mark.parametrize("cache", ["on", "auto"])
def test_disk_that_fills_while_caching_leaves_nothing_half_written_and_the_run_goes_on(
    encode, query, crop, outlined, store, monkeypatch, caplog, cache
) -> None:
    fail_at_the_third_view(monkeypatch)
    with caplog.at_level(logging.WARNING):
        reader = encode({"felt, test": [query, crop, outlined], "steel, test": [crop]}, cache=cache)
    assert "features of felt, test are not stored" in caplog.text
    assert "No space left on device" in caplog.text
    assert folders(store) == []
    monkeypatch.undo()
    expected = encode({"felt, test": [query, crop, outlined]}, cache="off")
    for view in (query, crop, outlined):
        same(reader(view), expected(view))


def test_disk_that_fills_in_the_second_set_keeps_the_first(encode, query, crop, outlined, store, monkeypatch) -> None:
    fail_at_the_third_view(monkeypatch)
    reader = encode({"felt, a": [query, crop], "felt, b": [outlined]})
    assert len(folders(store)) == 1
    assert reader(outlined).final.shape == reader(query).final.shape


@pytest.mark.parametrize("name", ["final.bin", "views.json"])
def test_damaged_entry_is_made_anew_and_it_is_said(encode, query, crop, store, progress, name) -> None:
    expected = encode({"felt, test": [query, crop]})(crop)
    (folder,) = store.root.glob("features/*")
    with (folder / name).open("r+b") as file:
        file.write(b"\xff\xff")
    reader = encode({"felt, test": [query, crop]})
    assert f"{name} is damaged (size or hash differs); it is made anew" in progress.notes[-1]
    same(reader(crop), expected)


def test_entry_of_other_weights_is_not_used(encode, model, query, store, progress, monkeypatch) -> None:
    """By its key; and were it put in the place of another, by its manifest."""
    encode({"felt, test": [query]})
    (of_these,) = store.root.glob("features/*")
    monkeypatch.setattr(model, "evidence_identity", "of other weights")
    encode({"felt, test": [query]})
    (of_others,) = set(store.root.glob("features/*")) - {of_these}
    shutil.rmtree(of_others)
    of_these.rename(of_others)
    encode({"felt, test": [query]})
    assert "was made from other inputs, weights or settings" in progress.notes[-1]
    assert progress.notes[-1].endswith("it is made anew")


def test_two_processes_that_encode_the_same_views_share_one_entry(encoder, query, crop, outlined, tmp_path) -> None:
    views: dict[str, Sequence[View]] = {"felt, test": [query, crop, outlined]}

    def run() -> None:
        torch.set_num_threads(1)
        store = ArtifactStore(tmp_path, progress=SilentProgress())
        reader = build_features(store=store, views=views, encoder=encoder, cache="on", progress=SilentProgress())
        assert all(bool(reader(view).final.isfinite().all()) for view in views["felt, test"])
        (tmp_path / f"{store.num_built} built, {store.num_reused} reused").touch()

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=run) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "0 built, 1 reused",
        "1 built, 0 reused",
    ]
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_live_encoder_of_no_view_does_nothing(encoder, count_reads) -> None:
    assert LiveFeatures(encoder).of([]) == {}
    assert count_reads() == 0
