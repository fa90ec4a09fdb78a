"""What the PatchCore benchmark compares: pictures, one network, and three systems that fit and judge them."""

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.utils.data import DataLoader

from velm_train.backbones.protocol import FeatureMaps, LayerInfo
from velm_train.core.hashing import sha256_json
from velm_train.core.images import LazyImages
from velm_train.core.seeding import generator
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.settings import PatchCoreSettings

LAYERS = ("layer2", "layer3")
NUM_NEIGHBOURS = 9
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SYSTEMS = ("ours", "torch model", "engine")


class TimmBackbone:
    """A network out of timm as a `Backbone`, with the weights it is given, channels last as convolutions like it."""

    def __init__(self, network: nn.Module, *, layers: Sequence[str]) -> None:
        info = network.feature_info
        pairs = zip(info.channels(), info.reduction(), strict=True)
        self.layers = {
            name: LayerInfo(channels=channels, stride=stride)
            for name, (channels, stride) in zip(layers, pairs, strict=True)
        }
        self.identity = sha256_json({"benchmark": type(network).__name__, "layers": list(layers)})
        self._network = copy.deepcopy(network).eval().to(memory_format=torch.channels_last)
        self._mean, self._std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))

    @torch.inference_mode()
    def features(self, images: torch.Tensor, *, layers: Sequence[str]) -> FeatureMaps:
        """Returns the maps of the layers."""
        normalised = (images - self._mean).div_(self._std).contiguous(memory_format=torch.channels_last)
        maps = self._network(normalised)
        return {name: maps[list(self.layers).index(name)] for name in layers}


def make_network(name: str) -> nn.Module:
    """Returns the network that anomalib would make, with random weights that are always the same."""
    import timm  # noqa: PLC0415 - slow to import, and not for every system

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False, features_only=True, exportable=True, out_indices=(2, 3)).eval()


def make_picture(number: int, *, defective: bool, size_hw: tuple[int, int]) -> np.ndarray:
    """Returns stripes and grain of an own phase and light, with a smooth blot if it is defective."""
    rng = generator(0, "picture", str(defective), str(number))
    rows, columns = np.mgrid[0 : size_hw[0], 0 : size_hw[1]]
    grain = gaussian_filter(rng.standard_normal(size_hw), 2.0)
    image = 120 + 40 * np.sin(columns / 7 + rng.uniform(0, 6)) * np.sin(rows / 11 + rng.uniform(0, 6)) + 60 * grain
    if defective:
        row, column = rng.uniform(0.2, 0.8, 2) * size_hw
        image += rng.choice([-1, 1]) * 70 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 9.0**2))
    image = image * rng.normal(1, 0.03) + rng.normal(0, 3)
    return np.rint(image[..., None] * rng.normal(1, 0.01, 3)).clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, *, num_fitted: int, num_judged: int, size_hw: tuple[int, int]) -> None:
    """Writes good pictures to fit, and to judge as many good as defective ones."""
    for name, count, first, defective in (
        ("fit", num_fitted, 0, False),
        ("good", num_judged // 2, num_fitted, False),
        ("bad", num_judged - num_judged // 2, 0, True),
    ):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = make_picture(first + number, defective=defective, size_hw=size_hw)
            Image.fromarray(picture).save(folder / name / f"{number:05d}.png", compress_level=1)


class Bench:
    """The pictures, the network and the settings that all systems share."""

    def __init__(self, folder: Path, *, args: argparse.Namespace) -> None:
        self.args = args
        self.folder = folder
        self.input_hw = (args.height, args.width)
        self.fitted = sorted((folder / "fit").iterdir())
        self.judged = sorted((folder / "good").iterdir()) + sorted((folder / "bad").iterdir())
        self.network = make_network(args.backbone)

    def batches(self, paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
        """Yields the paths some at a time."""
        for start in range(0, len(paths), self.args.batch):
            yield paths[start : start + self.args.batch]

    def ours(
        self, *, smoothing_sigma: float = 1.0, even_edges: bool = True
    ) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
        """Returns the fit of our detector and the scoring of all judged pictures.

        Args:
            smoothing_sigma: 0 reads the score off the distances themselves, as anomalib does.
            even_edges: False leaves the edge of the map as it is, as anomalib does.
        """
        detector = PatchCore(
            TimmBackbone(self.network, layers=LAYERS),
            PatchCoreSettings(
                layers=LAYERS,
                input_hw=self.input_hw,
                coreset_fraction=self.args.ratio,
                max_patches=10**9,
                smoothing_sigma=smoothing_sigma,
                even_edges=even_edges,
                reweight=True,
                num_neighbours=NUM_NEIGHBOURS,
            ),
            device=torch.device("cpu"),
            batch_size=self.args.batch,
        )
        names = [path.name for path in self.fitted]

        def predict() -> np.ndarray:
            found = detector.detect(LazyImages(self.judged), image_ids=[str(path) for path in self.judged])
            return np.array([one.anomaly_score for one in found])

        return lambda: detector.fit(LazyImages(self.fitted), image_ids=names, group_ids=names), predict

    def torch_model(self) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
        """Returns the same of anomalib's torch model, transform, reader and coreset sampler."""
        from anomalib.data.utils import read_image  # noqa: PLC0415 - slow to import

        module = self.patchcore()
        model = module.model

        def load(paths: Sequence[Path]) -> torch.Tensor:
            return torch.stack([module.pre_processor.transform(read_image(path, as_tensor=True)) for path in paths])

        @torch.inference_mode()
        def fit() -> None:
            model.train()
            for paths in self.batches(self.fitted):
                model(load(paths))
            model.subsample_embedding(self.args.ratio)

        @torch.inference_mode()
        def predict() -> np.ndarray:
            model.eval()
            return np.concatenate([model(load(paths)).pred_score.numpy() for paths in self.batches(self.judged)])

        return fit, predict

    def engine(self) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
        """Returns the same of anomalib's Engine."""
        from anomalib.data import Folder, PredictDataset  # noqa: PLC0415 - slow to import
        from anomalib.engine import Engine  # noqa: PLC0415 - slow to import

        module = self.patchcore()
        engine = Engine(
            accelerator="cpu",
            default_root_dir=self.folder / "engine",
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        data = Folder(
            name="bench",
            root=self.folder,
            normal_dir="fit",
            test_split_mode="none",
            val_split_mode="none",
            train_batch_size=self.args.batch,
            num_workers=0,
        )
        datasets = [PredictDataset(self.folder / name) for name in ("good", "bad")]

        def predict() -> np.ndarray:
            found = [
                engine.predict(
                    module,
                    dataloaders=DataLoader(dataset, batch_size=self.args.batch, collate_fn=dataset.collate_fn),
                )
                for dataset in datasets
            ]
            return np.concatenate([batch.pred_score.numpy() for batches in found for batch in batches])

        return lambda: engine.fit(module, datamodule=data), predict

    def patchcore(self) -> nn.Module:
        """Returns anomalib's PatchCore with the shared network and settings, not fitted."""
        from anomalib.models import Patchcore  # noqa: PLC0415 - slow to import

        module = Patchcore(
            backbone=self.args.backbone,
            layers=LAYERS,
            pre_trained=False,
            coreset_sampling_ratio=self.args.ratio,
            num_neighbors=NUM_NEIGHBOURS,
            pre_processor=Patchcore.configure_pre_processor(image_size=self.input_hw),
            post_processor=False,  # it would clamp the scores
            evaluator=False,
            visualizer=False,
        )
        module.model.feature_extractor.feature_extractor.load_state_dict(self.network.state_dict())
        return module

    def system(self, name: str) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
        """Returns fit and predict of one of `SYSTEMS`, not fitted."""
        return {"ours": self.ours, "torch model": self.torch_model, "engine": self.engine}[name]()
