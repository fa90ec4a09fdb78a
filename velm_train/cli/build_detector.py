"""Checked settings in, a maker of detectors out: one plain branch a detector."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from velm_train.assets.library import AssetLibrary
from velm_train.backbones.load import BACKBONE_NAMES, load_backbone
from velm_train.backbones.protocol import Backbone
from velm_train.cli.build_engine import make_device
from velm_train.config import Config
from velm_train.config.detectors import AnomalibConfig, DetectorConfig, MapsConfig
from velm_train.config.model import EMBEDDED
from velm_train.detectors.protocol import Detector
from velm_train.pipeline.backbone_views import BackboneViews

logger = logging.getLogger(__name__)


def make_detector(config: Config, *, assets: AssetLibrary) -> Callable[[], Detector]:
    """Returns a maker of fresh detectors that share one backbone.

    Raises:
        ConfigError: if the backbone does not have the layers, or a setting does not suit the detector.
        AssetError: if weights cannot be had.
    """
    detector, device = config.detector, make_device(config)
    make = _maker(detector, seed=config.seed, device=device, assets=assets)
    if detector.num_folds == 0:
        return make
    from velm_train.detectors.folds import KFoldDetector

    return lambda: KFoldDetector(make, num_folds=detector.num_folds, seed=config.seed)


def make_backbone_views(config: Config, *, assets: AssetLibrary) -> BackboneViews | None:
    """Returns the detector's backbone as an encoder of views.

    None where it would say nothing new: the detector has no backbone of ours, or it is a tower of the model itself.

    Raises:
        AssetError: if weights cannot be had.
    """
    detector = config.detector
    shared = config.model.family == EMBEDDED and detector.backbone in BACKBONE_NAMES
    if shared or detector.maps is not None or detector.anomalib is not None:
        return None
    return BackboneViews(
        load_backbone(detector.backbone, assets=assets, device=make_device(config)),
        layers=detector.layers,
        input_hw=(detector.input_height_px, detector.input_width_px),
        half_precision=detector.half_precision,
        device=make_device(config),
    )


def _maker(
    detector: DetectorConfig, *, seed: int, device: torch.device, assets: AssetLibrary
) -> Callable[[], Detector]:
    logger.info("detector: %s", detector.name)
    if detector.maps is not None:
        return _maps(detector.maps, score_top_fraction=detector.score_top_fraction)
    if detector.anomalib is not None:
        return _anomalib(detector, detector.anomalib, seed=seed, device=device)
    backbone = load_backbone(detector.backbone, assets=assets, device=device)
    if detector.patchcore is not None or detector.anomaly_dino is not None or detector.musc is not None:
        return _by_neighbours(detector, backbone, seed=seed, device=device)
    return _by_moments(detector, backbone, seed=seed, device=device)


def _by_neighbours(
    detector: DetectorConfig, backbone: Backbone, *, seed: int, device: torch.device
) -> Callable[[], Detector]:
    """PatchCore, AnomalyDINO and MuSc: distances to the patches of other images."""
    from velm_train.detectors.anomaly_dino import AnomalyDino
    from velm_train.detectors.anomaly_dino_settings import AnomalyDinoSettings
    from velm_train.detectors.musc import MuSc
    from velm_train.detectors.musc_settings import MuScSettings
    from velm_train.detectors.patchcore import PatchCore
    from velm_train.detectors.settings import PatchCoreSettings

    layers, input_hw = tuple(detector.layers), (detector.input_height_px, detector.input_width_px)
    if detector.patchcore is not None:
        bank = PatchCoreSettings(
            layers=layers,
            input_hw=input_hw,
            coreset_fraction=detector.patchcore.coreset_fraction,
            max_patches=detector.patchcore.max_bank_patches,
            smoothing_sigma=detector.smoothing_sigma,
            score_top_fraction=detector.score_top_fraction,
            score_diffuse=detector.score_diffuse,
            even_edges=detector.patchcore.even_edges,
            reweight=detector.patchcore.reweight,
            num_neighbours=detector.patchcore.num_neighbours,
            seed=seed,
            half_precision=detector.half_precision,
        )
        return lambda: PatchCore(backbone, bank, device=device, batch_size=detector.batch_size)
    if detector.anomaly_dino is not None:
        few = AnomalyDinoSettings(
            layers=layers,
            input_hw=input_hw,
            foreground=detector.anomaly_dino.foreground,
            num_rotations=detector.anomaly_dino.num_rotations,
            smoothing_sigma=detector.smoothing_sigma,
            score_top_fraction=detector.score_top_fraction,
            score_diffuse=detector.score_diffuse,
            half_precision=detector.half_precision,
        )
        return lambda: AnomalyDino(backbone, few, device=device, batch_size=detector.batch_size)
    assert detector.musc is not None
    mutual = MuScSettings(
        layers=layers,
        input_hw=input_hw,
        mode=detector.musc.mode,
        neighbourhoods=tuple(detector.musc.neighbourhoods),
        lowest_fraction=detector.musc.lowest_fraction,
        rescore_neighbours=tuple(detector.musc.rescore_neighbours),
        smoothing_sigma=detector.smoothing_sigma,
        score_top_fraction=detector.score_top_fraction,
        score_diffuse=detector.score_diffuse,
        half_precision=detector.half_precision,
    )
    return lambda: MuSc(backbone, mutual, device=device, batch_size=detector.batch_size)


def _by_moments(
    detector: DetectorConfig, backbone: Backbone, *, seed: int, device: torch.device
) -> Callable[[], Detector]:
    """SubspaceAD and PaDiM: mean and covariance of patches."""
    from velm_train.detectors.moment_settings import PadimSettings, SubspaceAdSettings
    from velm_train.detectors.padim import Padim
    from velm_train.detectors.subspace_ad import SubspaceAd

    layers, input_hw = tuple(detector.layers), (detector.input_height_px, detector.input_width_px)
    if detector.subspace_ad is not None:
        subspace = SubspaceAdSettings(
            layers=layers,
            input_hw=input_hw,
            smoothing_sigma=detector.smoothing_sigma,
            score_top_fraction=detector.score_top_fraction,
            score_diffuse=detector.score_diffuse,
            half_precision=detector.half_precision,
            explained_variance=detector.subspace_ad.explained_variance,
            max_components=detector.subspace_ad.max_components,
        )
        return lambda: SubspaceAd(backbone, subspace, device=device, batch_size=detector.batch_size)
    assert detector.padim is not None
    gaussians = PadimSettings(
        layers=layers,
        input_hw=input_hw,
        smoothing_sigma=detector.smoothing_sigma,
        score_top_fraction=detector.score_top_fraction,
        score_diffuse=detector.score_diffuse,
        half_precision=detector.half_precision,
        num_channels=detector.padim.num_channels,
        regularisation=detector.padim.regularisation,
        seed=seed,
    )
    return lambda: Padim(backbone, gaussians, device=device, batch_size=detector.batch_size)


def _maps(maps: MapsConfig, *, score_top_fraction: float) -> Callable[[], Detector]:
    from velm_train.detectors.precomputed import PrecomputedMaps, PrecomputedSettings

    settings = PrecomputedSettings(
        folder=Path(maps.folder).expanduser(),
        scores=None if maps.scores is None else Path(maps.scores).expanduser(),
        score_top_fraction=score_top_fraction,
    )
    return lambda: PrecomputedMaps(settings)


def _anomalib(
    detector: DetectorConfig, anomalib: AnomalibConfig, *, seed: int, device: torch.device
) -> Callable[[], Detector]:
    from velm_train.detectors.anomalib_adapter import AnomalibDetector
    from velm_train.detectors.anomalib_models import AnomalibSettings

    settings = AnomalibSettings(
        model=anomalib.model,
        arguments=anomalib.arguments,
        max_epochs=anomalib.max_epochs,
        input_hw=(detector.input_height_px, detector.input_width_px),
        seed=seed,
    )
    return lambda: AnomalibDetector(settings, device=device, batch_size=detector.batch_size)
