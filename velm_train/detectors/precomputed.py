"""Anomaly maps that another system wrote go in; they come out as detections of the images they belong to.

    <folder>/<image_id without its suffix>.npy | .tiff | .tif | .png      the name of the data set may be left out
    <folder>/maps.json                                                    optional: {"out_of_sample": true}
    <scores>.csv                                                          optional: columns image_id, score

The map of `mvtec/bottle/test/crack/003.png` is `mvtec/bottle/test/crack/003.npy` or `bottle/test/crack/003.npy`. A map
covers the whole image at a resolution of its own. Floating-point values are taken as they are; PNG and integer TIFF
values are divided by 255 or 65535.
"""

import csv
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from velm_train.core.errors import ConfigError, DataError, GateError
from velm_train.core.hashing import sha256_file, sha256_json
from velm_train.core.records import CalibrationKind
from velm_train.detectors.fitted_state import FittedState
from velm_train.detectors.map_files import MAP_SUFFIXES, file_facts, list_maps, read_map
from velm_train.detectors.protocol import Need, RawDetection, RGBImages
from velm_train.detectors.scores import top_mean
from velm_train.detectors.state import array_to_text, require_images, text_to_array

logger = logging.getLogger(__name__)

PRECOMPUTED_VERSION = 1
"""Raised when the same inputs and settings give another output."""

DECLARATION_NAME = "maps.json"

_MAX_LISTED = 20
_SCORE_COLUMNS = ("image_id", "score")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecomputedSettings:
    """Where the maps are and how a score is read off them.

    Attributes:
        folder: holds the maps.
        scores: CSV file with columns image_id and score, or None to read the scores off the maps.
        score_top_fraction: without a CSV file the score is the mean of this share of the largest map values; 0 is the
            maximum.
    """

    folder: Path
    scores: Path | None
    score_top_fraction: float

    def __post_init__(self) -> None:
        """Names the first setting that is impossible.

        Raises:
            ConfigError: with the value got and the values allowed.
        """
        if not 0 <= self.score_top_fraction <= 1:
            raise ConfigError(f"detector.score_top_fraction is {self.score_top_fraction}; must lie in [0, 1]")
        if not self.folder.is_dir():
            raise ConfigError(f"detector.maps.folder is {self.folder}; name a folder that holds maps")
        if self.scores is not None and not self.scores.is_file():
            raise ConfigError(f"detector.maps.scores is {self.scores}; name a CSV file, or null to use the maps alone")


class PrecomputedMaps:
    """Another system's word, taken from files; nothing is learnt.

    Whether that system had seen a good image when it judged it, files cannot tell. So its scores of the fitted images
    calibrate nothing, unless `maps.json` says that each was judged by a system that lacked its physical part. Otherwise
    held-out good images have to.
    """

    needs: frozenset[Need] = frozenset({"maps_on_disk"})
    transductive = False

    def __init__(self, settings: PrecomputedSettings) -> None:
        """Lists the folder and reads the scores; no map is opened.

        Raises:
            DataError: if the folder holds no map, or the CSV file or maps.json is not as it has to be.
        """
        self._settings = settings
        self._files = list_maps(settings.folder)
        declaration = settings.folder / DECLARATION_NAME
        self._declared = _read_declaration(declaration) if declaration.is_file() else False
        self._scores = None if settings.scores is None else _read_scores(settings.scores)
        self.calibration: CalibrationKind = "leave_one_out" if self._declared else "split"
        self.settings_hash = sha256_json(
            {
                "detector": "maps",
                "version": PRECOMPUTED_VERSION,
                "maps": file_facts(settings.folder, [path for paths in self._files.values() for path in paths]),
                "out_of_sample": self._declared,
                "scores": None if settings.scores is None else sha256_file(settings.scores),
                "score_top_fraction": settings.score_top_fraction,
            }
        )
        self._fitted = FittedState(self.settings_hash)

    @property
    def identity(self) -> str:
        """Hash of settings, the files' names, sizes and times, and the fitted ids."""
        return self._fitted.identity

    def fit(self, images: RGBImages, *, image_ids: Sequence[str], group_ids: Sequence[str]) -> None:
        """Remembers which images are the good ones.

        Args:
            images: not read.
            image_ids: one distinct id an image, in order.
            group_ids: as many.

        Raises:
            DataError: if there is no image, or ids are missing or repeated.
        """
        require_images(images, image_ids=image_ids, group_ids=group_ids)
        self._fitted.keep({"image_ids": text_to_array(json.dumps(list(image_ids)))})

    def detect(self, images: RGBImages, *, image_ids: Sequence[str]) -> list[RawDetection]:
        """Returns the maps of these images; the images themselves are not read.

        Raises:
            DataError: naming every image without a map or score, or with several, and the first map that is damaged.
            GateError: if the detector is not fitted.
        """
        del images
        self._fitted.arrays()
        paths = self._find(image_ids)
        scores = self._find_scores(image_ids)
        maps = [read_map(path) for path in paths]
        if scores is None:
            scores = [top_mean(one, self._settings.score_top_fraction) for one in maps]
            self._warn_of_equal_scores(scores)
        return [RawDetection(anomaly_score=score, anomaly_map=one) for score, one in zip(scores, maps, strict=True)]

    def out_of_sample(self) -> list[RawDetection]:
        """Returns the maps of the fitted images, if maps.json says that they are out-of-sample.

        Raises:
            DataError: as `detect`.
            GateError: if the detector is not fitted, or nothing says so.
        """
        image_ids = json.loads(array_to_text(self._fitted.arrays()["image_ids"]))
        if not self._declared:
            raise GateError(
                f"the maps in {self._settings.folder} may come from a system that was fitted on these very images, so "
                "they cannot calibrate the gate: hold good images out by protocol.calibration_fraction above 0, or "
                f'write {{"out_of_sample": true}} to {DECLARATION_NAME} there if each training image was judged by a '
                "system fitted without its physical part"
            )
        return self.detect([], image_ids=image_ids)

    def state(self) -> dict[str, np.ndarray]:
        """Returns the ids of the fitted images.

        Raises:
            GateError: if the detector is not fitted.
        """
        return self._fitted.arrays()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a fitted detector from what `state` returned.

        Raises:
            ArtifactError: if arrays are missing or unknown, or belong to other settings or other files.
        """
        self._fitted.restore(state, names={"image_ids"})

    def _find(self, image_ids: Sequence[str]) -> list[Path]:
        found: list[Path] = []
        problems: list[str] = []
        for image_id in image_ids:
            names = [name.rpartition(".")[0] or name for name in _spellings(image_id)]
            paths = [path for name in names for path in self._files.get(name, ())]
            if len(paths) == 1:
                found += paths
            elif paths:
                problems.append(f"{image_id} has {', '.join(str(self._relative(path)) for path in paths)}")
            else:
                problems.append(f"{image_id} has none of {', '.join(f'{name}.npy' for name in names)}")
        shared = {path for path in found if found.count(path) > 1}
        problems += [f"{self._relative(path)} belongs to several images" for path in sorted(shared)]
        _refuse(problems, what=f"maps in {self._settings.folder} (suffixes {', '.join(MAP_SUFFIXES)})")
        return found

    def _find_scores(self, image_ids: Sequence[str]) -> list[float] | None:
        if self._scores is None:
            return None
        found = [
            [self._scores[name] for name in _spellings(image_id) if name in self._scores] for image_id in image_ids
        ]
        problems = [
            f"{image_id} has {len(scores)} rows"
            for image_id, scores in zip(image_ids, found, strict=True)
            if len(scores) != 1
        ]
        _refuse(problems, what=f"scores in {self._settings.scores}")
        return [scores[0] for scores in found]

    def _relative(self, path: Path) -> Path:
        return path.relative_to(self._settings.folder)

    def _warn_of_equal_scores(self, scores: Sequence[float]) -> None:
        if len(scores) > 1 and len(set(scores)) == 1:
            logger.warning(
                "%d maps in %s have the same score %g; were they scaled image by image? Then no score can be read off "
                "them: write raw values, or name a file in detector.maps.scores",
                len(scores),
                self._settings.folder,
                scores[0],
            )


def _spellings(image_id: str) -> tuple[str, str]:
    """Returns the id with and without the name of the data set."""
    return image_id, image_id.partition("/")[2]


def _refuse(problems: Sequence[str], *, what: str) -> None:
    if problems:
        more = f"; and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise DataError(
            f"{what}: {len(problems)} images without exactly one: {'; '.join(problems[:_MAX_LISTED])}{more}; "
            "name each after its image_id, with or without the data set in front"
        )


def _read_declaration(path: Path) -> bool:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); write JSON or remove the file") from error
    if (
        not isinstance(content, dict)
        or list(content) != ["out_of_sample"]
        or content["out_of_sample"] not in (True, False)
    ):
        raise DataError(f'{path} holds {content}; write {{"out_of_sample": true}} or false, and nothing else')
    return bool(content["out_of_sample"])


def _read_scores(path: Path) -> dict[str, float]:
    scores: dict[str, float] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != _SCORE_COLUMNS:
            raise DataError(f"{path} has columns {reader.fieldnames}; name them {', '.join(_SCORE_COLUMNS)}")
        for row in reader:
            try:
                score = float(row["score"])
            except (TypeError, ValueError) as error:
                raise DataError(f"{path}, line {reader.line_num}: score {row['score']!r} is no number") from error
            if not math.isfinite(score):
                raise DataError(f"{path}, line {reader.line_num}: score {score} is not finite")
            if row["image_id"] in scores:
                raise DataError(f"{path}, line {reader.line_num}: {row['image_id']} occurs twice; keep one row")
            scores[row["image_id"]] = score
    return scores
