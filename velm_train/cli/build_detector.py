"""Checked settings in, a maker of detectors out."""

from collections.abc import Callable

import torch

from velm_train.assets.library import AssetLibrary
from velm_train.backbones.load import load_backbone
from velm_train.config import Config
from velm_train.core.errors import ConfigError
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.protocol import Detector
from velm_train.detectors.settings import PatchCoreSettings


def make_detector(config: Config, *, assets: AssetLibrary) -> Callable[[], Detector]:
    """Returns a maker of fresh detectors that share one backbone.

    Raises:
        ConfigError: if the backbone does not have the layers.
        AssetError: if its weights cannot be had.
    """
    detector = config.detector
    device = torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")
    backbone = load_backbone(detector.backbone, assets=assets, device=device)
    if detector.patchcore is None:
        raise ConfigError(f"detector.name={detector.name} cannot be built yet")
    settings = PatchCoreSettings(
        layers=tuple(detector.layers),
        input_hw=(detector.input_height_px, detector.input_width_px),
        coreset_fraction=detector.patchcore.coreset_fraction,
        max_patches=detector.patchcore.max_bank_patches,
        smoothing_sigma=detector.smoothing_sigma,
        score_top_fraction=detector.score_top_fraction,
        score_diffuse=detector.score_diffuse,
        reweight=detector.patchcore.reweight,
        num_neighbours=detector.patchcore.num_neighbours,
        seed=config.seed,
        half_precision=detector.half_precision,
    )
    return lambda: PatchCore(backbone, settings, device=device, batch_size=detector.batch_size)
