"""Fits detectors with their shipped settings on every category of an MVTec-style data set; prints AUROC and seconds.

    python experiments/benchmarks/detectors.py --root <data set> --detectors patchcore,subspace_ad,padim

A detector's settings are those of conf/detector/<name>.yaml; options change backbone, layers and size for all. Seconds
are CPU time, which other work on the machine changes little; they cover reading the images, and those of the fit the
out-of-sample scores too. Intervals are at 95 %: of AUROC by bootstrap over the images of every category, of rates after
Clopper and Pearson. The gate's threshold at a rate alpha is that of conformal p-values over the left-out scores.

A detector that judges images together is given those of a category at once, good and defective.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from velm_train.assets.library import AssetLibrary
from velm_train.backbones.load import load_backbone
from velm_train.backbones.protocol import Backbone
from velm_train.core.images import LazyImages
from velm_train.core.progress import SilentProgress
from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.core.seeding import generator
from velm_train.detectors.anomaly_dino import AnomalyDino
from velm_train.detectors.anomaly_dino_settings import AnomalyDinoSettings
from velm_train.detectors.moment_settings import PadimSettings, SubspaceAdSettings
from velm_train.detectors.musc import MuSc
from velm_train.detectors.musc_settings import MuScSettings
from velm_train.detectors.padim import Padim
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.protocol import Detector
from velm_train.detectors.settings import PatchCoreSettings
from velm_train.detectors.subspace_ad import SubspaceAd
from velm_train.reporting.manifest import describe_machine

CONF = Path(__file__).parents[2] / "conf" / "detector"
SEED = 0
ALPHAS = (0.01, 0.05)
NUM_DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one category shows."""

    category: str
    good_scores: list[float]
    bad_scores: list[float]
    left_out_scores: list[float]
    edge_share: float
    edge_cells: float
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
    parser.add_argument("--output", type=Path, help="JSON Lines file to which every category's scores are added")
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
        results = []
        for folder in folders:
            results.append(measure(MAKERS[name](backbone, config), folder))
            if arguments.output:
                with arguments.output.open("a") as file:
                    print(json.dumps({"detector": config, **dataclasses.asdict(results[-1])}), file=file)
        print(describe(name, config, results), flush=True)


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


def make_anomaly_dino(backbone: Backbone, config: Mapping[str, Any]) -> Detector:
    """Builds AnomalyDINO."""
    settings = AnomalyDinoSettings(**common(config), **config["anomaly_dino"])
    return AnomalyDino(backbone, settings, device=torch.device("cpu"), batch_size=config["batch_size"])


def make_musc(backbone: Backbone, config: Mapping[str, Any]) -> Detector:
    """Builds MuSc."""
    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in config["musc"].items()
    }
    settings = MuScSettings(**common(config), **own)
    return MuSc(backbone, settings, device=torch.device("cpu"), batch_size=config["batch_size"])


MAKERS: dict[str, Callable[[Backbone, Mapping[str, Any]], Detector]] = {
    "patchcore": make_patchcore,
    "subspace_ad": make_subspace_ad,
    "padim": make_padim,
    "anomaly_dino": make_anomaly_dino,
    "musc": make_musc,
}


def measure(detector: Detector, folder: Path) -> Result:
    """Fits on the good training images of a category and scores its test images."""
    paths = sorted((folder / "train" / NORMAL_DEFECT_TYPE).iterdir())
    ids = [path.name for path in paths]
    started = time.process_time()
    detector.fit(LazyImages(paths), image_ids=ids, group_ids=ids)
    fit_seconds = time.process_time() - started
    left_out = detector.out_of_sample()
    tests = sorted(path for kind in sorted((folder / "test").iterdir()) for path in kind.iterdir())
    started = time.process_time()
    found = detector.detect(LazyImages(tests), image_ids=[path.as_posix() for path in tests])
    seconds = (time.process_time() - started) / len(tests)
    defective = [path.parent.name != NORMAL_DEFECT_TYPE for path in tests]
    edge = np.pad(np.zeros([side - 2 for side in left_out[0].anomaly_map.shape], dtype=bool), 1, constant_values=True)
    return Result(
        category=folder.name,
        good_scores=[one.anomaly_score for one, bad in zip(found, defective, strict=True) if not bad],
        bad_scores=[one.anomaly_score for one, bad in zip(found, defective, strict=True) if bad],
        left_out_scores=[one.anomaly_score for one in left_out],
        edge_share=float(np.mean([edge.ravel()[one.anomaly_map.argmax()] for one in left_out])),
        edge_cells=float(edge.mean()),
        fit_seconds=fit_seconds,
        seconds_per_image=seconds,
        state_mb=sum(array.nbytes for array in detector.state().values()) / 1e6,
    )


def auroc(good: Sequence[float] | np.ndarray, bad: Sequence[float] | np.ndarray) -> float:
    """Returns the area under the ROC curve."""
    return float(roc_auc_score([False] * len(good) + [True] * len(bad), np.concatenate([good, bad])))


def auroc_interval(results: Sequence[Result]) -> tuple[float, float]:
    """Returns the bootstrap interval of the mean AUROC over categories."""
    rng = generator(SEED, "detectors", "bootstrap")
    means = [
        np.mean(
            [
                auroc(*(rng.choice(scores, len(scores)) for scores in (one.good_scores, one.bad_scores)))
                for one in results
            ]
        )
        for _ in range(NUM_DRAWS)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def share(count: int, total: int) -> str:
    """Returns a count with its share and the share's interval in percent."""
    low = beta.ppf(0.025, count, total - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, total - count) if count < total else 1.0
    return f"{count} of {total} = {100 * count / total:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def gate(results: Sequence[Result], alpha: float) -> str:
    """Returns what a gate at a rate does in all categories."""
    alarms = {"good_scores": 0, "bad_scores": 0}
    for one in results:
        num_left_out = len(one.left_out_scores)
        if (num_left_out + 1) * alpha < 1:
            return f"{100 * alpha:g} % is out of reach of {num_left_out} images"
        for name in alarms:
            higher = (np.array(one.left_out_scores) >= np.array(getattr(one, name))[:, None]).sum(axis=1)
            alarms[name] += int(((1 + higher) / (num_left_out + 1) <= alpha).sum())
    good, bad = (sum(len(getattr(one, name)) for one in results) for name in alarms)
    return (
        f"at {100 * alpha:g} % false alarms {share(alarms['good_scores'], good)}, "
        f"missed {share(bad - alarms['bad_scores'], bad)}"
    )


def describe(name: str, config: Mapping[str, Any], results: Sequence[Result]) -> str:
    """Returns means and sums over the categories, then every category's AUROC."""
    aurocs = [auroc(one.good_scores, one.bad_scores) for one in results]
    low, high = auroc_interval(results)
    each = ", ".join(f"{one.category} {value:.3f}" for one, value in zip(results, aurocs, strict=True))
    num_left_out = sum(len(one.left_out_scores) for one in results)
    on_edge = round(sum(one.edge_share * len(one.left_out_scores) for one in results))
    return (
        f"{name} {config[name]} on {config['backbone']} {config['layers']} "
        f"{config['input_height_px']}x{config['input_width_px']}: AUROC mean {np.mean(aurocs):.4f} "
        f"[{low:.4f}, {high:.4f}], lowest {min(aurocs):.3f} over {len(results)} categories of "
        f"{num_left_out / len(results):.0f} fitted images; gate {'; '.join(gate(results, alpha) for alpha in ALPHAS)}; "
        f"maximum of left-out images on the edge, {100 * np.mean([one.edge_cells for one in results]):.1f} % of the "
        f"cells, in {share(on_edge, num_left_out)}; fit {np.mean([one.fit_seconds for one in results]):.2f} CPU s a "
        f"category, {1000 * np.mean([one.seconds_per_image for one in results]):.0f} CPU ms an image, state "
        f"{np.mean([one.state_mb for one in results]):.1f} MB\n  {each}"
    )


if __name__ == "__main__":
    main()
