"""Features of views with any number of tiles are written and read back bit by bit, in the type that was named."""

import contextlib
import dataclasses
from pathlib import Path

import pytest
import torch

from velm_train.collation.collate import ViewFeatures
from velm_train.core.errors import DataError
from velm_train.pipeline.feature_files import INDEX_NAME, FeatureFile, FeatureWriter


def make_view(
    *, num_tiles: int, grid_hw: tuple[int, int], dtype: torch.dtype = torch.float32, boxes: bool = True, seed: int = 0
) -> ViewFeatures:
    generator = torch.Generator().manual_seed(seed)
    num_tokens = grid_hw[0] * grid_hw[1]
    return ViewFeatures(
        final=torch.randn(num_tiles, num_tokens, 5, generator=generator).to(dtype),
        levels=torch.randn(2, num_tiles, num_tokens, 3, generator=generator).to(dtype),
        grid_hw=torch.tensor([grid_hw] * num_tiles),
        view_index=torch.zeros(num_tiles, dtype=torch.long),
        is_global=torch.arange(num_tiles) == num_tiles - 1,
        valid=torch.rand(num_tiles, num_tokens, generator=generator) > 0.2,
        map_scores=torch.rand(num_tiles, num_tokens, generator=generator),
        tile_xyxy=torch.rand(num_tiles, 4, generator=generator) if boxes else None,
    )


def write(folder: Path, views: dict[str, ViewFeatures], *, dtype: torch.dtype) -> FeatureFile:
    with FeatureWriter(folder, dtype=dtype) as writer:
        for key, view in views.items():
            writer.append(key, view)
    assert writer.num_bytes == sum((folder / name).stat().st_size for name in ("final.bin", "levels.bin"))
    return FeatureFile(folder)


def same(found: ViewFeatures, expected: ViewFeatures) -> None:
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert (one is None and other is None) or (one.dtype == other.dtype and torch.equal(one, other)), field.name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_views_of_unequal_tiles_come_back_bit_by_bit(tmp_path, dtype):
    views = {
        "a": make_view(num_tiles=3, grid_hw=(2, 4), dtype=dtype, seed=1),
        "b": make_view(num_tiles=1, grid_hw=(3, 1), dtype=dtype, seed=2),
        "c": make_view(num_tiles=2, grid_hw=(5, 2), dtype=dtype, seed=3),
    }
    file = write(tmp_path, views, dtype=dtype)
    assert file.keys == ("a", "b", "c")
    for key in ("b", "c", "a"):
        same(file(key), views[key])


def test_views_without_boxes_have_none_afterwards(tmp_path):
    view = make_view(num_tiles=1, grid_hw=(2, 3), boxes=False)
    same(write(tmp_path, {"a": view}, dtype=torch.float32)("a"), view)


def test_features_are_rounded_to_the_type_on_disk_and_nothing_else_is(tmp_path):
    view = make_view(num_tiles=2, grid_hw=(2, 3))
    found = write(tmp_path, {"a": view}, dtype=torch.bfloat16)("a")
    assert torch.equal(found.final, view.final.bfloat16())
    assert torch.equal(found.map_scores, view.map_scores)


def test_features_are_mapped_and_not_held(tmp_path):
    """What is changed in the file afterwards is seen by a reader that was opened before."""
    file = write(tmp_path, {"a": make_view(num_tiles=1, grid_hw=(2, 3))}, dtype=torch.float32)
    with (tmp_path / "final.bin").open("r+b") as stream:
        stream.write(bytes(4))
    assert file("a").final[0, 0, 0] == 0


def test_features_that_overflow_the_type_on_disk_are_refused(tmp_path):
    view = make_view(num_tiles=1, grid_hw=(2, 3))
    view.levels[1, 0, 2, 1] = 1e5
    message = r"not finite in torch.float16 \(largest value 100000\); set model.dtype=float32"
    with pytest.raises(DataError, match=message):
        write(tmp_path, {"a": view}, dtype=torch.float16)
    assert not (tmp_path / INDEX_NAME).exists()


def test_an_interrupted_build_is_written_over(tmp_path):
    first, second = make_view(num_tiles=4, grid_hw=(3, 3), seed=1), make_view(num_tiles=1, grid_hw=(1, 2), seed=2)
    with contextlib.suppress(KeyboardInterrupt), FeatureWriter(tmp_path, dtype=torch.float32) as writer:
        writer.append("old", first)
        raise KeyboardInterrupt
    assert not (tmp_path / INDEX_NAME).exists()
    same(write(tmp_path, {"new": second}, dtype=torch.float32)("new"), second)


def test_an_unknown_view_is_no_silent_zero(tmp_path):
    with pytest.raises(KeyError):
        write(tmp_path, {"a": make_view(num_tiles=1, grid_hw=(2, 3))}, dtype=torch.float32)("b")
