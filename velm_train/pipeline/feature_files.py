"""What a frozen tower says about views in, files on disk out; and back again, memory-mapped and bit by bit.

views.json    type and widths of the features; of each view its key, its tiles T and the tokens N of the largest
final.bin     T x N x Df numbers of one view after the other
levels.bin    L x T x N x Dl numbers of one view after the other
tiles.npz     of all tiles: grid_hw, is_global, tile_xyxy; of all T x N tokens: valid, map_scores
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from velm_train.collation.collate import ViewFeatures
from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import DataError

INDEX_NAME = "views.json"
_FINAL_NAME = "final.bin"
_LEVELS_NAME = "levels.bin"
_TILES_NAME = "tiles.npz"


class FeatureWriter:
    """Appends views to the files of one folder; nothing of an earlier view is held but its places."""

    def __init__(self, folder: Path, *, dtype: torch.dtype) -> None:
        """Opens the files, replacing those of an interrupted build.

        Args:
            folder: exists.
            dtype: of the features on disk.
        """
        self._folder = folder
        self._dtype = dtype
        self._views: list[ViewFeatures] = []
        self._keys: list[str] = []
        self.num_bytes = 0

    def __enter__(self) -> "FeatureWriter":
        """Opens the large files."""
        self._final: BinaryIO = (self._folder / _FINAL_NAME).open("wb")
        self._levels: BinaryIO = (self._folder / _LEVELS_NAME).open("wb")
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        """Closes the files; the index is written last, and only if nothing went wrong."""
        self._final.close()
        self._levels.close()
        if kind is None:
            self._write_index()

    def append(self, key: str, view: ViewFeatures) -> None:
        """Writes one view.

        Raises:
            DataError: if a feature is not finite in the type on disk.
        """
        stored = as_stored(view, dtype=self._dtype)
        for file, values in ((self._final, stored.final), (self._levels, stored.levels)):
            self.num_bytes += file.write(values.view(torch.uint8).numpy().data)
        self._keys.append(key)
        # Meta tensors keep the shapes and nothing else.
        self._views.append(_without_features(view))

    def _write_index(self) -> None:
        views = self._views
        tiles: dict[str, Any] = {
            "grid_hw": _joined([view.grid_hw for view in views]),
            "is_global": _joined([view.is_global for view in views]),
            "valid": _joined([view.valid.flatten() for view in views]),
            "map_scores": _joined([view.map_scores.flatten() for view in views]),
        }
        boxes = [view.tile_xyxy for view in views if view.tile_xyxy is not None]
        if boxes:
            tiles["tile_xyxy"] = _joined(boxes)
        np.savez(self._folder / _TILES_NAME, **tiles)
        first = views[0]
        index = {
            "dtype": str(self._dtype).removeprefix("torch."),
            "final_width": first.final.shape[2],
            "num_levels": first.levels.shape[0],
            "level_width": first.levels.shape[3],
            "views": [[key, *view.valid.shape] for key, view in zip(self._keys, views, strict=True)],
        }
        write_atomic(self._folder / INDEX_NAME, json.dumps(index))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a view begins, in tiles and in tokens, and how many of them it has."""

    first_tile: int
    first_token: int
    num_tiles: int
    num_tokens: int


class FeatureFile:
    """Reads the views of one folder; features are memory-mapped."""

    def __init__(self, folder: Path) -> None:
        """Opens the files of a finished folder."""
        self._index: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text())
        self._places: dict[str, _Place] = {}
        tile = token = 0
        for key, num_tiles, num_tokens in self._index["views"]:
            self._places[key] = _Place(tile, token, num_tiles, num_tokens)
            tile, token = tile + num_tiles, token + num_tiles * num_tokens
        level_size = self._index["num_levels"] * self._index["level_width"]
        self._final = self._mapped(folder / _FINAL_NAME, size=token * self._index["final_width"])
        self._levels = self._mapped(folder / _LEVELS_NAME, size=token * level_size)
        with np.load(folder / _TILES_NAME) as tiles:
            self._tiles = {name: torch.from_numpy(tiles[name]) for name in tiles.files}

    @property
    def keys(self) -> tuple[str, ...]:
        """The views, in the order they were written."""
        return tuple(self._places)

    def __call__(self, key: str) -> ViewFeatures:
        """Returns one view.

        Raises:
            KeyError: if it is not in this folder.
        """
        place = self._places[key]
        shape = (place.num_tiles, place.num_tokens)
        tiles = slice(place.first_tile, place.first_tile + place.num_tiles)
        tokens = slice(place.first_token, place.first_token + place.num_tiles * place.num_tokens)
        width, num_levels, level_width = (self._index[name] for name in ("final_width", "num_levels", "level_width"))
        level_size = num_levels * level_width
        return ViewFeatures(
            final=self._final[tokens.start * width : tokens.stop * width].view(*shape, width),
            levels=self._levels[tokens.start * level_size : tokens.stop * level_size].view(
                num_levels, *shape, level_width
            ),
            grid_hw=self._tiles["grid_hw"][tiles],
            view_index=torch.zeros(place.num_tiles, dtype=torch.long),
            is_global=self._tiles["is_global"][tiles],
            valid=self._tiles["valid"][tokens].view(shape),
            map_scores=self._tiles["map_scores"][tokens].view(shape),
            tile_xyxy=self._tiles["tile_xyxy"][tiles] if "tile_xyxy" in self._tiles else None,
        )

    def _mapped(self, path: Path, *, size: int) -> torch.Tensor:
        return torch.from_file(str(path), shared=False, size=size, dtype=getattr(torch, self._index["dtype"]))


def as_stored(view: ViewFeatures, *, dtype: torch.dtype) -> ViewFeatures:
    """Returns a view with its features as they are on disk.

    Raises:
        DataError: if a feature is not finite in that type.
    """
    return dataclasses.replace(view, final=_rounded(view.final, dtype), levels=_rounded(view.levels, dtype))


def _rounded(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    stored = values.to(dtype).contiguous()
    if not bool(torch.isfinite(stored).all()):
        raise DataError(
            f"the vision tower's features are not finite in {dtype} (largest value {float(values.abs().max()):g}); "
            "set model.dtype=float32"
        )
    return stored


def _without_features(view: ViewFeatures) -> ViewFeatures:
    return dataclasses.replace(view, final=view.final.to("meta"), levels=view.levels.to("meta"))


def _joined(parts: list[torch.Tensor]) -> np.ndarray:
    return torch.cat(parts).numpy()
