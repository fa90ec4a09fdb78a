"""The name of an anomalib image model goes in; a detector with the model's raw scores and maps comes out.

    good images -> resized (I, 3, H, W) -> anomalib's Engine -> the bare network, frozen -> state_dict
    image -> resized -> the model's own normalisation -> network -> raw score and map

Nothing of anomalib runs behind the network: its post-processor would scale and clamp scores to 0..1 and so change
their order. anomalib is imported only when a model is fitted or restored, which takes many seconds.
"""

import importlib.metadata
import importlib.util
import json
import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from velm_train.backbones.preprocess import resize_batch
from velm_train.core.errors import ArtifactError, ConfigError, DataError, GateError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import CalibrationKind
from velm_train.detectors.anomalib_models import (
    AnomalibSettings,
    build_module,
    fit_module,
    network_of,
    own_randomness,
    parse_arguments,
)
from velm_train.detectors.fitted_state import FittedState
from velm_train.detectors.protocol import Need, RawDetection, RGBImages
from velm_train.detectors.state import require_images, text_to_array

logger = logging.getLogger(__name__)

ANOMALIB_ADAPTER_VERSION = 1
"""Raised when the same inputs and settings give another output."""

_NETWORK_PREFIX = "network."


class AnomalibDetector:
    """One of anomalib's image models that learn from good images.

    It has no out-of-sample scores of its own: wrap it in a `KFoldDetector`. An image is resized without regard to its
    aspect and seen whole; a crop the model would make is left out, because a map has to cover its image.

    After fitting, the network is built anew from its state_dict and has to give the same output, so that a model which
    keeps part of what it learnt elsewhere is refused at once.
    """

    needs: frozenset[Need] = frozenset({"normals"})
    transductive = False
    calibration: CalibrationKind = "k_fold"

    def __init__(self, settings: AnomalibSettings, *, device: torch.device, batch_size: int) -> None:
        """Checks that anomalib is installed; it is not imported.

        Args:
            settings: everything that changes the output, but for the batch size.
            device: where the model is trained and run.
            batch_size: images at a time, in training as well.

        Raises:
            ConfigError: if anomalib is not installed, or the arguments are no JSON object.
        """
        if importlib.util.find_spec("anomalib") is None:
            raise ConfigError("detector=anomalib needs the package anomalib; run: pip install -e .[detectors]")
        self._settings = settings
        self._arguments = parse_arguments(settings.arguments)
        self._device = device
        self._batch_size = batch_size
        self.settings_hash = sha256_json(
            {
                "detector": "anomalib",
                "version": ANOMALIB_ADAPTER_VERSION,
                "anomalib": importlib.metadata.version("anomalib"),
                "model": settings.model,
                "arguments": self._arguments,
                "max_epochs": settings.max_epochs,
                "input_hw": settings.input_hw,
                "seed": settings.seed,
                "batch_size": batch_size,
            }
        )
        self._fitted = FittedState(self.settings_hash)
        self._network: nn.Sequential | None = None

    @property
    def identity(self) -> str:
        """Hash of settings and all weights; before `fit`, of the settings and no state."""
        return self._fitted.identity

    def fit(self, images: RGBImages, *, image_ids: Sequence[str], group_ids: Sequence[str]) -> None:
        """Trains the model; the resized images are in memory.

        Args:
            images: good images.
            image_ids: one distinct id an image, in order.
            group_ids: as many; not read.

        Raises:
            AssetError: if pretrained weights cannot be had.
            ConfigError: if the model is unknown, cannot be built or trained from good images, or cannot be restored.
            DataError: if there is no image, ids are missing or repeated, or scores are not finite.
        """
        require_images(images, image_ids=image_ids, group_ids=group_ids)
        pixels = self._resized(images)
        with own_randomness(self._settings.seed):
            module = build_module(self._settings.model, self._arguments, input_hw=self._settings.input_hw)
            fit_module(
                module,
                pixels,
                max_epochs=self._settings.max_epochs,
                batch_size=self._batch_size,
                device=self._device,
                name=self._settings.model,
            )
        trained = self._freeze(module)
        arrays = {
            f"{_NETWORK_PREFIX}{name}": self._to_array(name, values)
            for name, values in network_of(module).state_dict().items()
        }
        self._network = self._restored(arrays)
        self._require_same(trained, self._network, pixels[:2])
        self._fitted.keep({"image_ids": text_to_array(json.dumps(list(image_ids))), **arrays})
        logger.info("%s of anomalib: fitted on %d good images", self._settings.model, len(images))

    def detect(self, images: RGBImages, *, image_ids: Sequence[str]) -> list[RawDetection]:
        """Scores images that had no part in `fit`.

        Raises:
            DataError: if scores are not finite.
            GateError: if the detector is not fitted.
        """
        del image_ids
        self._fitted.arrays()
        assert self._network is not None, "the network comes with the state"
        detections = []
        for start in range(0, len(images), self._batch_size):
            chosen = [images[index] for index in range(start, min(start + self._batch_size, len(images)))]
            detections += self._run(self._network, self._resized(chosen))
        return detections

    def out_of_sample(self) -> list[RawDetection]:
        """Refuses: a trained network cannot be looked at as if it had not seen an image.

        Raises:
            GateError: always.
        """
        self._fitted.arrays()
        raise GateError(
            f"{self._settings.model} of anomalib was trained on these images and has no score of them out-of-sample; "
            "set detector.num_folds to 2 or more"
        )

    def state(self) -> dict[str, np.ndarray]:
        """Returns the network's weights and the ids of the fitted images.

        Raises:
            GateError: if the detector is not fitted.
        """
        return self._fitted.arrays()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores a fitted detector from what `state` returned; imports anomalib.

        Raises:
            ArtifactError: if arrays are missing or unknown, or belong to other settings.
        """
        checked = FittedState(self.settings_hash)
        weights = {name: state[name] for name in state if name.startswith(_NETWORK_PREFIX)}
        checked.restore(state, names={"image_ids", *weights})
        try:
            self._network = self._restored(weights)
        except ConfigError as error:
            raise ArtifactError(f"detector state does not fit {self._settings.model}: {error}; fit it again") from error
        self._fitted = checked

    def _resized(self, images: RGBImages) -> UInt8[Tensor, "I 3 H W"]:
        parts = [resize_batch([images[index]], self._settings.input_hw) for index in range(len(images))]
        return torch.cat([(part * 255).round().to(torch.uint8) for part in parts])

    def _freeze(self, module: nn.Module) -> nn.Sequential:
        """Returns the model's normalisation and network, and leaves everything else of anomalib behind."""
        assert isinstance(module.pre_processor, nn.Module), "build_module gave it one"
        network = nn.Sequential(module.pre_processor, network_of(module))
        return network.eval().requires_grad_(requires_grad=False).to(self._device)

    def _to_array(self, name: str, values: Tensor) -> np.ndarray:
        if values.dtype == torch.bfloat16:
            raise ConfigError(f"{self._settings.model}: {name} is bfloat16, which arrays cannot hold; choose float32")
        array: np.ndarray = values.detach().cpu().contiguous().numpy()
        return array

    def _restored(self, arrays: Mapping[str, np.ndarray]) -> nn.Sequential:
        weights = {name.removeprefix(_NETWORK_PREFIX): torch.from_numpy(np.array(arrays[name])) for name in arrays}
        with own_randomness(self._settings.seed):
            # Weights are all overwritten, so that pretrained ones need not be there a second time.
            arguments = {**self._arguments, "pre_trained": False}
            module = build_module(
                self._settings.model, arguments, input_hw=self._settings.input_hw, optional=("pre_trained",)
            )
        try:
            network_of(module).load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise ConfigError(
                f"detector.anomalib.model {self._settings.model} cannot be restored from its state_dict ({error})"
            ) from error
        return self._freeze(module)

    def _require_same(self, trained: nn.Sequential, restored: nn.Sequential, pixels: UInt8[Tensor, "I 3 H W"]) -> None:
        before = self._run(trained, pixels)
        try:
            after = self._run(restored, pixels)
            same = all(
                np.allclose(one.anomaly_map, other.anomaly_map, rtol=1e-4, atol=1e-6)
                for one, other in zip(before, after, strict=True)
            )
        except (ConfigError, DataError):
            same = False
        if not same:
            raise ConfigError(
                f"detector.anomalib.model {self._settings.model} gives other maps after it is restored, because it "
                "keeps part of what it learnt outside its state_dict; choose another model"
            )

    @torch.no_grad()
    def _run(self, network: nn.Sequential, pixels: UInt8[Tensor, "I 3 H W"]) -> list[RawDetection]:
        try:
            output = network(pixels.to(self._device).float() / 255)
        except RuntimeError as error:
            raise ConfigError(
                f"detector.anomalib.model {self._settings.model} cannot judge images of "
                f"{tuple(pixels.shape[2:])} pixels after fitting: {error}"
            ) from error
        if output.anomaly_map is None:
            raise ConfigError(
                f"detector.anomalib.model {self._settings.model} gives no anomaly map; choose one that localises"
            )
        maps = output.anomaly_map.float().reshape(len(pixels), *output.anomaly_map.shape[-2:]).cpu().numpy()
        top = maps.reshape(len(pixels), -1).max(axis=1)
        scores = top if output.pred_score is None else output.pred_score.float().reshape(len(pixels)).cpu().numpy()
        if not (np.isfinite(maps).all() and np.isfinite(scores).all()):
            raise DataError(
                f"{self._settings.model} of anomalib gives values that are not finite; fit more images, or check them"
            )
        return [
            RawDetection(anomaly_score=float(score), anomaly_map=one) for score, one in zip(scores, maps, strict=True)
        ]
