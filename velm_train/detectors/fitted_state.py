"""Arrays of a fitted detector and the settings they belong to go in; checked arrays and their hash come out."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from velm_train.core.errors import ArtifactError, GateError
from velm_train.core.hashing import sha256_json
from velm_train.detectors.protocol import RawDetection
from velm_train.detectors.scores import score_statistics, standardised
from velm_train.detectors.state import array_to_text, hash_arrays, text_to_array

_SETTINGS_NAME = "settings_hash"

LEFT_OUT_NAMES = ("loo_scores", "loo_maps", "loo_statistics")
"""Arrays that hold the out-of-sample results of the fitted images."""


class FittedState:
    """What a detector learnt, as arrays, together with the hash of the settings it learnt under."""

    def __init__(self, settings_hash: str) -> None:
        """Starts without arrays.

        Args:
            settings_hash: of everything that changes the output.
        """
        self._settings_hash = settings_hash
        self._arrays: dict[str, np.ndarray] | None = None
        self.identity = sha256_json({"settings": settings_hash, "state": None})

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all arrays.

        Raises:
            GateError: if there are none yet.
        """
        if self._arrays is None:
            raise GateError("the detector is not fitted; call fit or load_state first")
        return dict(self._arrays)

    def keep(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes what a fit made, and adds the hash of the settings."""
        self._arrays = {**arrays, _SETTINGS_NAME: text_to_array(self._settings_hash)}
        self.identity = sha256_json({"settings": self._settings_hash, "state": hash_arrays(self._arrays)})

    def restore(self, arrays: Mapping[str, np.ndarray], *, names: Collection[str] | None) -> None:
        """Takes what `arrays` returned in an earlier run.

        Args:
            arrays: from disk.
            names: the arrays there have to be beside the hash of the settings, or None if that cannot be known.

        Raises:
            ArtifactError: if arrays are missing or unknown, or belong to other settings or another backbone.
        """
        expected = set(arrays) | {_SETTINGS_NAME} if names is None else {*names, _SETTINGS_NAME}
        if set(arrays) != expected:
            raise ArtifactError(f"detector state holds {sorted(arrays)} instead of {sorted(expected)}; fit it again")
        found = array_to_text(np.asarray(arrays[_SETTINGS_NAME]))
        if found != self._settings_hash:
            raise ArtifactError(
                f"detector state belongs to settings {found[:12]}, not {self._settings_hash[:12]}; "
                "fit the detector again"
            )
        self.keep({name: np.array(arrays[name]) for name in arrays if name != _SETTINGS_NAME})


def pack_left_out(
    detections: Sequence[RawDetection], *, groups: Int[np.ndarray, " I"], score_diffuse: bool
) -> dict[str, np.ndarray]:
    """Returns the out-of-sample results as arrays, scores measured against the other groups where asked for.

    Args:
        detections: of every fitted image, or none where nothing is left when one group is left out.
        groups: number of each image's group.
        score_diffuse: whether scores are in standard deviations of the other groups' statistics.

    Raises:
        GateError: if `score_diffuse` has too few images to measure against.
    """
    statistics = np.array([score_statistics(one) for one in detections], dtype=np.float64).reshape(-1, 2)
    scored = [
        standardised(one, yardstick=statistics[groups != groups[index]]) if score_diffuse else one
        for index, one in enumerate(detections)
    ]
    return {
        "loo_scores": np.array([one.anomaly_score for one in scored], dtype=np.float64),
        "loo_maps": np.array([one.anomaly_map for one in scored], dtype=np.float32),
        "loo_statistics": statistics,
    }


def unpack_left_out(arrays: Mapping[str, np.ndarray]) -> list[RawDetection]:
    """Returns the out-of-sample results that `pack_left_out` packed.

    Raises:
        GateError: if there are none, because a single group was fitted.
    """
    if len(arrays["loo_scores"]) == 0:
        raise GateError(
            "the detector was fitted on 1 image or group, so nothing is left when that one is left out; "
            "fit good images of at least 2 parts, or calibrate on held-out ones"
        )
    return [
        RawDetection(anomaly_score=float(score), anomaly_map=anomaly_map.copy())
        for score, anomaly_map in zip(arrays["loo_scores"], arrays["loo_maps"], strict=True)
    ]
