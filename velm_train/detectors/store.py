"""The detections of one category go in; a folder with scores as JSON and maps as float16 arrays comes out, and back.

    <folder>/detections.json     one row a detection: id, score, sizes, where its map lies
    <folder>/maps_<h>x<w>.npy    the maps of that shape, float16 (n, h, w), read by memory-mapping

Scores are kept exactly. Maps are rounded to 11 significant bits, each scaled by a power of two of its own so that no
value overflows; whoever needs the same regions on every run reads the maps from here instead of using fresh ones.
"""

import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16

from velm_train.core.artifacts import require_free_disk, write_atomic
from velm_train.core.errors import ArtifactError, DataError
from velm_train.core.records import Detection, SizeHW
from velm_train.core.shapes import AnomalyMap

STORE_SCHEMA_VERSION = 1
INDEX_NAME = "detections.json"

_TOP_EXPONENT = 14  # the largest magnitude of a stored map lies in [2^14, 2^15), below float16's 65504


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """One line of the index.

    Attributes:
        map_hw: shape of the map, which names its file.
        map_index: position in that file.
        map_exponent: stored values times 2 to this power are raw units.
    """

    image_id: str
    detector_hash: str
    anomaly_score: float
    image_size_hw: SizeHW
    out_of_sample: bool
    map_hw: SizeHW
    map_index: int
    map_exponent: int


def _maps_name(map_hw: SizeHW) -> str:
    return f"maps_{map_hw[0]}x{map_hw[1]}.npy"


def _exponent(anomaly_map: np.ndarray) -> int:
    largest = float(np.abs(anomaly_map).max())
    return 0 if largest == 0 else math.frexp(largest)[1] - 1 - _TOP_EXPONENT


def save_detections(detections: Sequence[Detection], folder: Path) -> None:
    """Writes detections so that `load_detections` returns them in the same order.

    Args:
        detections: of distinct images, by one detector.
        folder: made if needed; the index is written last, so that a folder with an index is complete.

    Raises:
        DataError: if an image occurs twice or several detectors are mixed.
        ResourceError: if the disk is nearly full or the folder cannot be written.
    """
    image_ids = {detection.image_id for detection in detections}
    if len(image_ids) < len(detections):
        raise DataError(f"{len(detections)} detections of only {len(image_ids)} images; save each image once")
    if len({detection.detector_hash for detection in detections}) > 1:
        raise DataError(f"detections of several detectors cannot share {folder}; save them apart")
    groups: dict[SizeHW, list[np.ndarray]] = {}
    rows: list[_Row] = []
    for detection in detections:
        map_hw = (detection.anomaly_map.shape[0], detection.anomaly_map.shape[1])
        exponent = _exponent(detection.anomaly_map)
        group = groups.setdefault(map_hw, [])
        rows.append(
            _Row(
                image_id=detection.image_id,
                detector_hash=detection.detector_hash,
                anomaly_score=detection.anomaly_score,
                image_size_hw=detection.image_size_hw,
                out_of_sample=detection.out_of_sample,
                map_hw=map_hw,
                map_index=len(group),
                map_exponent=exponent,
            )
        )
        group.append(_to_stored(detection.anomaly_map, exponent))
    require_free_disk(folder, needed_bytes=sum(stored.nbytes for group in groups.values() for stored in group))
    for map_hw, group in groups.items():
        buffer = io.BytesIO()
        np.save(buffer, np.stack(group), allow_pickle=False)
        write_atomic(folder / _maps_name(map_hw), buffer.getvalue())
    index = {"schema_version": STORE_SCHEMA_VERSION, "detections": [dataclasses.asdict(row) for row in rows]}
    write_atomic(folder / INDEX_NAME, json.dumps(index, indent=1))


def as_stored(anomaly_map: AnomalyMap) -> AnomalyMap:
    """Returns a map as it would be read back: what is judged without a store gets the same regions and answers."""
    exponent = _exponent(anomaly_map)
    return _from_stored(_to_stored(anomaly_map, exponent), exponent)


def _to_stored(anomaly_map: AnomalyMap, exponent: int) -> Float16[np.ndarray, "h w"]:
    return np.ldexp(anomaly_map.astype(np.float64), -exponent).astype(np.float16)


def _from_stored(stored: Float16[np.ndarray, "h w"], exponent: int) -> AnomalyMap:
    return np.ldexp(stored.astype(np.float64), exponent).astype(np.float32)


class DetectionStore:
    """Reads a folder of detections one by one; maps stay on disk until asked for."""

    def __init__(self, folder: Path) -> None:
        """Reads the index and maps the map files into memory.

        Raises:
            ArtifactError: if a file is missing, damaged or of another schema version.
        """
        self._folder = folder
        self._rows = {row.image_id: row for row in _read_index(folder)}
        self._maps = {map_hw: self._open_maps(map_hw) for map_hw in {row.map_hw for row in self._rows.values()}}

    @property
    def image_ids(self) -> list[str]:
        """Ids in the order saved."""
        return list(self._rows)

    @property
    def scores(self) -> dict[str, float]:
        """Raw anomaly score by image id, in the order saved."""
        return {image_id: row.anomaly_score for image_id, row in self._rows.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Detection]:
        return (self[image_id] for image_id in self._rows)

    def __getitem__(self, image_id: str) -> Detection:
        """Returns one detection with its map as float32.

        Raises:
            ArtifactError: if the image is not in the folder.
        """
        if image_id not in self._rows:
            raise ArtifactError(f"{self._folder} holds no detection of {image_id}; run the detector on it")
        row = self._rows[image_id]
        stored = self._maps[row.map_hw][row.map_index]
        return Detection(
            image_id=row.image_id,
            detector_hash=row.detector_hash,
            anomaly_score=row.anomaly_score,
            anomaly_map=_from_stored(stored, row.map_exponent),
            image_size_hw=row.image_size_hw,
            out_of_sample=row.out_of_sample,
        )

    def _open_maps(self, map_hw: SizeHW) -> np.ndarray:
        path = self._folder / _maps_name(map_hw)
        try:
            maps = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); delete {self._folder} and detect again") from error
        num_maps = sum(row.map_hw == map_hw for row in self._rows.values())
        if maps.dtype != np.float16 or maps.shape != (num_maps, *map_hw):
            raise ArtifactError(
                f"{path} holds {maps.dtype} {maps.shape} instead of float16 {(num_maps, *map_hw)}; "
                f"delete {self._folder} and detect again"
            )
        return np.asarray(maps)


class StoredDetections(Mapping[str, Detection]):
    """The detections of several folders as one read-only mapping by image id; maps stay on disk until asked for."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Reads the indexes.

        Raises:
            ArtifactError: if a file is missing, damaged or of another schema version.
            DataError: if an image is in two folders.
        """
        self._stores: dict[str, DetectionStore] = {}
        for folder in folders:
            store = DetectionStore(folder)
            twice = next((image_id for image_id in store.image_ids if image_id in self._stores), None)
            if twice is not None:
                raise DataError(f"{twice} is detected twice, the second time in {folder}; delete it and detect again")
            self._stores.update(dict.fromkeys(store.image_ids, store))

    def __len__(self) -> int:
        return len(self._stores)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stores)

    def __getitem__(self, image_id: str) -> Detection:
        """Returns one detection with its map as float32."""
        return self._stores[image_id][image_id]


def load_detections(folder: Path) -> list[Detection]:
    """Returns the detections of a folder in the order saved, all maps in memory as float32.

    Raises:
        ArtifactError: if a file is missing, damaged or of another schema version.
    """
    return list(DetectionStore(folder))


def _read_index(folder: Path) -> list[_Row]:
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); delete {folder} and detect again") from error
    if index["schema_version"] != STORE_SCHEMA_VERSION:
        raise ArtifactError(
            f"{path}: schema version {index['schema_version']} instead of {STORE_SCHEMA_VERSION}; "
            f"delete {folder} and detect again"
        )
    return [_row(values) for values in index["detections"]]


def _row(values: dict[str, Any]) -> _Row:
    return _Row(
        **{**values, "image_size_hw": tuple(values["image_size_hw"]), "map_hw": tuple(values["map_hw"])},
    )
