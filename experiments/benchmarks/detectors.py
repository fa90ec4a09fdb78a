"""Fits detectors with their shipped settings on every category of an MVTec-style data set; prints AUROC and seconds.

    python experiments/benchmarks/detectors.py --root <data set> --detectors patchcore,subspace_ad,padim

A detector's settings are those of conf/detector/<name>.yaml; options change backbone, layers and size for all. Seconds
are CPU time, which other work on the machine changes little; they cover reading the images, and those of the fit the
out-of-sample scores too.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from sklearn.metrics import roc_auc_score

from velm_train.assets.library import AssetLibrary
from velm_train.backbones.load import load_backbone
from velm_train.backbones.protocol import Backbone
from velm_train.core.images import LazyImages
from velm_train.core.progress import SilentProgress
from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.detectors.moment_settings import PadimSettings, SubspaceAdSettings
from velm_train.detectors.padim import Padim
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.protocol import Detector
from velm_train.detectors.settings import PatchCoreSettings
from velm_train.detectors.subspace_ad import SubspaceAd
from velm_train.reporting.manifest import describe_machine

CONF = Path(__file__).parents[2] / "conf" / "detector"
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one category shows."""

    auroc: float
    false_alarms: int
    num_good: int
    missed: int
    num_defects: int
    num_fitted: int
    fit_seconds: float
    seconds_per_image: float
    state_mb: float


def main() -> None:
    """Prints one row a detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="holds <category>/train/good and <category>/test/*")
    parser.add_argument("--detectors", default="patchcore,subspace_ad,padim", help=f"of {', '.join(MAKERS)}")
    parser.add_argument("--categories", default="", help="those alone, with commas between them; empty for all")
    parser.add_argument("--backbone", default="", help="instead of the shipped one, timm/<name> for instance")
    parser.add_argument("--layers", default="", help="instead of the shipped ones, with commas between them")
    parser.add_argument("--size", default="", help="HEIGHTxWIDTH in pixels instead of the shipped one")
    parser.add_argument("--set", default="", help="own settings of the detector, such as explained_variance=0.9")
    arguments = parser.parse_args()
    machine = describe_machine(())
    print(f"{machine.cpu}, {machine.num_cores} cores, {torch.get_num_threads()} threads")
    chosen = [name for name in arguments.categories.split(",") if name]
    folders = sorted(path for path in arguments.root.iterdir() if (path / "train" / NORMAL_DEFECT_TYPE).is_dir())
    folders = [folder for folder in folders if not chosen or folder.name in chosen]
    for name in arguments.detectors.split(","):
        config = read_config(name, arguments)
        backbone = load_backbone(config["backbone"], assets=library())
        results = [measure(MAKERS[name](backbone, config), folder) for folder in folders]
        print(describe(name, config, results, folders))


def library() -> AssetLibrary:
    """Returns the library of embedded assets at its usual place."""
    return AssetLibrary(Path.home() / ".cache" / "velm_train" / "assets", progress=SilentProgress())


def read_config(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the shipped settings with the options written over them."""
    config: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    if arguments.backbone:
        config["backbone"] = arguments.backbone
    if arguments.layers:
        config["layers"] = arguments.layers.split(",")
    if arguments.size:
        config["input_height_px"], config["input_width_px"] = map(int, arguments.size.split("x"))
    for word in filter(None, arguments.set.split(",")):
        key, _, value = word.partition("=")
        (config if key in config else config[name])[key] = yaml.safe_load(value)
    return config


def common(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that all detectors on a backbone share."""
    names = ("smoothing_sigma", "score_top_fraction", "score_diffuse", "half_precision")
    size_hw = (config["input_height_px"], config["input_width_px"])
    return {"layers": tuple(config["layers"]), "input_hw": size_hw, **{name: config[name] for name in names}}


def make_patchcore(backbone: Backbone, config: Mapping[str, Any]) -> Detector:
    """Builds PatchCore."""
    own = dict(config["patchcore"])
    settings = PatchCoreSettings(**common(config), max_patches=own.pop("max_bank_patches"), seed=SEED, **own)
    return PatchCore(backbone, settings, device=torch.device("cpu"), batch_size=config["batch_size"])


def make_subspace_ad(backbone: Backbone, config: Mapping[str, Any]) -> Detector:
    """Builds SubspaceAD."""
    settings = SubspaceAdSettings(**common(config), **config["subspace_ad"])
    return SubspaceAd(backbone, settings, device=torch.device("cpu"), batch_size=config["batch_size"])


def make_padim(backbone: Backbone, config: Mapping[str, Any]) -> Detector:
    """Builds PaDiM."""
    settings = PadimSettings(**common(config), **config["padim"], seed=SEED)
    return Padim(backbone, settings, device=torch.device("cpu"), batch_size=config["batch_size"])


MAKERS: dict[str, Callable[[Backbone, Mapping[str, Any]], Detector]] = {
    "patchcore": make_patchcore,
    "subspace_ad": make_subspace_ad,
    "padim": make_padim,
}


def measure(detector: Detector, folder: Path) -> Result:
    """Fits on the good training images of a category and scores its test images."""
    paths = sorted((folder / "train" / NORMAL_DEFECT_TYPE).iterdir())
    ids = [path.name for path in paths]
    started = time.process_time()
    detector.fit(LazyImages(paths), image_ids=ids, group_ids=ids)
    fit_seconds = time.process_time() - started
    threshold = max(one.anomaly_score for one in detector.out_of_sample())
    tests = sorted(path for kind in sorted((folder / "test").iterdir()) for path in kind.iterdir())
    started = time.process_time()
    found = detector.detect(LazyImages(tests), image_ids=[path.as_posix() for path in tests])
    seconds = (time.process_time() - started) / len(tests)
    scores = np.array([one.anomaly_score for one in found])
    defective = np.array([path.parent.name != NORMAL_DEFECT_TYPE for path in tests])
    return Result(
        auroc=float(roc_auc_score(defective, scores)),
        false_alarms=int((scores[~defective] > threshold).sum()),
        num_good=int((~defective).sum()),
        missed=int((scores[defective] <= threshold).sum()),
        num_defects=int(defective.sum()),
        num_fitted=len(paths),
        fit_seconds=fit_seconds,
        seconds_per_image=seconds,
        state_mb=sum(array.nbytes for array in detector.state().values()) / 1e6,
    )


def describe(name: str, config: Mapping[str, Any], results: Sequence[Result], folders: Sequence[Path]) -> str:
    """Returns a row of means and sums over the categories, then every category's AUROC."""
    aurocs = np.array([one.auroc for one in results])
    sums = {key: sum(getattr(one, key) for one in results) for key in ("false_alarms", "num_good", "missed")}
    num_defects = sum(one.num_defects for one in results)
    fit_seconds = np.mean([one.fit_seconds for one in results])
    each = ", ".join(f"{folder.name} {one.auroc:.3f}" for folder, one in zip(folders, results, strict=True))
    return (
        f"{name} {config[name]} on {config['backbone']} {config['layers']} "
        f"{config['input_height_px']}x{config['input_width_px']}: AUROC mean {aurocs.mean():.4f}, lowest "
        f"{aurocs.min():.3f} over {len(results)} categories of {np.mean([one.num_fitted for one in results]):.0f} "
        f"fitted images; above the highest left-out score {sums['false_alarms']} of {sums['num_good']} good images, "
        f"below it {sums['missed']} of {num_defects} defects; fit {fit_seconds:.2f} CPU s a category, "
        f"{1000 * np.mean([one.seconds_per_image for one in results]):.0f} CPU ms an image, state "
        f"{np.mean([one.state_mb for one in results]):.1f} MB\n  {each}"
    )


if __name__ == "__main__":
    main()
