"""Small parts of two categories on disk, a PatchCore on real features, and what it says about them."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from velm_train.assets.library import AssetLibrary
from velm_train.backbones.load import load_backbone
from velm_train.backbones.protocol import Backbone
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.hashing import sha256_file
from velm_train.core.images import write_png
from velm_train.core.progress import SilentProgress
from velm_train.core.records import ImageRecord, Role, View
from velm_train.detectors.patchcore import PatchCore
from velm_train.detectors.settings import PatchCoreSettings
from velm_train.gating.gate import CalibratedGate
from velm_train.instructions.views import NO_CONTOUR, make_view
from velm_train.models.build import assemble_embedded, embedded_towers
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.embedded.vision import VisionSettings
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.pipeline.cache_choice import FeatureCache
from velm_train.pipeline.detection import CategoryDetections, detect_categories
from velm_train.pipeline.features import FeatureReader, build_features
from velm_train.pipeline.live_features import ViewEncoder
from velm_train.pipeline.looking import RegionSettings, calibrate_gates
from velm_train.pipeline.views import MapSource

HEIGHT_PX, WIDTH_PX = 72, 96
SPOT_XYXY = (60, 12, 78, 30)
ROLES: dict[str, Role] = {
    "train/good/000.png": "train",
    "train/good/001.png": "train",
    "train/good/002.png": "train",
    "train/good/003.png": "train",
    "train/good/004.png": "reference",
    "train/good/005.png": "reference",
    "test/good/000.png": "test",
    "test/spot/000.png": "train",
    "test/spot/001.png": "test",
}


class NotingProgress(SilentProgress):
    """Keeps the lines that stay, and the length and the advance of every stage."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def write_part(folder: Path, category: str, relative_path: str, *, with_mask: bool = True) -> ImageRecord:
    """Writes one picture of noisy stripes, with a bright spot and its mask if the folder is called spot."""
    rng = np.random.default_rng([len(category), *relative_path.encode()])
    period = 8 if category == "felt" else 12
    stripes = (np.arange(WIDTH_PX) // period % 2 * 60 + 80)[None, :, None]
    image = np.clip(stripes + rng.normal(0, 8, (HEIGHT_PX, WIDTH_PX, 3)), 0, 255).astype(np.uint8)
    split, defect_type, name = relative_path.split("/")
    mask_paths: tuple[Path, ...] = ()
    if defect_type != "good":
        x0, y0, x1, y1 = SPOT_XYXY
        image[y0:y1, x0:x1] = (250, 30, 20)
        outline = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=np.bool_)
        outline[y0:y1, x0:x1] = True
        if with_mask:
            mask_paths = (folder / category / "ground_truth" / defect_type / name,)
            write_png(outline, mask_paths[0])
    path = folder / category / relative_path
    write_png(image, path)
    return ImageRecord(
        image_id=f"parts/{category}/{relative_path}",
        dataset="parts",
        category=category,
        split="train" if split == "train" else "test",
        defect_type=defect_type,
        image_path=path,
        gt_mask_paths=mask_paths,
        sha256=sha256_file(path),
        group_id=f"parts/{category}/{relative_path}",
        size_hw=(HEIGHT_PX, WIDTH_PX),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Records with their roles."""

    records: tuple[ImageRecord, ...]
    roles: dict[str, Role]

    def one(self, category: str, relative_path: str) -> ImageRecord:
        (record,) = [r for r in self.records if r.image_id == f"parts/{category}/{relative_path}"]
        return record


def write_parts(folder: Path) -> Parts:
    records = [write_part(folder, category, path) for category in ("felt", "steel") for path in ROLES]
    roles = {record.image_id: ROLES[record.image_id.split("/", maxsplit=2)[2]] for record in records}
    return Parts(records=tuple(records), roles=roles)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def own_parts(tmp_path: Path) -> Parts:
    """A copy that a test may change."""
    return write_parts(tmp_path / "parts")


@pytest.fixture(scope="session")
def backbone(assets: AssetLibrary) -> Backbone:
    return load_backbone("efficientnet_lite0", assets=assets)


@pytest.fixture(scope="session")
def new_detector(backbone: Backbone) -> Callable[..., PatchCore]:
    # not smoothed: over cells of 8 pixels a Gaussian spreads the spot over half of so small a picture
    def make(*, smoothing_sigma: float = 0.0) -> PatchCore:
        settings = PatchCoreSettings(
            layers=("stride8",), input_hw=(64, 96), coreset_fraction=0.5, smoothing_sigma=smoothing_sigma
        )
        return PatchCore(backbone, settings, device=torch.device("cpu"), batch_size=4)

    return make


@pytest.fixture
def progress() -> NotingProgress:
    return NotingProgress()


@pytest.fixture
def store(tmp_path: Path, progress: NotingProgress) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", progress=progress)


@pytest.fixture(scope="session")
def detections(
    parts: Parts, new_detector: Callable[..., PatchCore], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, CategoryDetections]:
    store = ArtifactStore(tmp_path_factory.mktemp("detected"), progress=SilentProgress())
    return detect_categories(
        store=store,
        records=parts.records,
        roles=parts.roles,
        make_detector=new_detector,
        shared=False,
        progress=SilentProgress(),
    )


@pytest.fixture(scope="session")
def gates(
    detections: Mapping[str, CategoryDetections], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, CalibratedGate]:
    store = ArtifactStore(tmp_path_factory.mktemp("gates"), progress=SilentProgress())
    return calibrate_gates(
        store=store,
        detections=detections,
        group_ids={image_id: image_id for found in detections.values() for image_id in found.calibration_ids},
        num_folds=0,
        alpha=0.2,
        pixel_alpha=0.01,
        allow_transductive=False,
    )


@pytest.fixture
def region_settings() -> RegionSettings:
    return RegionSettings(
        binarisation="threshold", min_area_px=20, merge_distance_px=4, max_regions=2, diffuse_fraction=0.6
    )


CONTOUR = np.array([[60, 12], [77, 12], [77, 29], [60, 29]], dtype=np.int32)


def make_model(assets: AssetLibrary) -> EmbeddedVLM:
    """The real towers under a small language model of random weights, the same ones each time."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2
    )
    torch.manual_seed(0)
    return assemble_embedded(
        towers=embedded_towers(
            assets=assets,
            settings=VisionSettings(cnn_px=64, vit_px=56, level_layers=("block3", "block6"), first_look_grid=1),
        ),
        language_model=LlamaForCausalLM(config),
        language_model_name="small",
        language_model_identity="small",
        look_twice=LookTwiceSettings(source="off"),
        lora=LoraSettings(r=2),
        seed=0,
    )


@pytest.fixture(scope="session")
def model(assets: AssetLibrary) -> EmbeddedVLM:
    return make_model(assets)


@pytest.fixture
def new_model(assets: AssetLibrary) -> Callable[[], EmbeddedVLM]:
    """Returns a function that makes one that a test may train."""
    return lambda: make_model(assets)


@pytest.fixture
def sources(detections, gates) -> dict[str, MapSource]:
    return {
        image_id: MapSource(detection=detection, gate=gates[category])
        for category, found in detections.items()
        for image_id, detection in found.detections.items()
    }


@pytest.fixture
def query(parts) -> View:
    return make_view("query", parts.one("felt", "test/spot/001.png"), box_xyxy=None, contour=NO_CONTOUR)


@pytest.fixture
def crop(parts) -> View:
    record: ImageRecord = parts.one("felt", "test/spot/001.png")
    return make_view("crop", record, box_xyxy=(50, 8, 86, 40), contour=NO_CONTOUR)


@pytest.fixture
def outlined(parts) -> View:
    return make_view("query_contour", parts.one("felt", "test/spot/001.png"), box_xyxy=None, contour=CONTOUR)


Encode = Callable[..., FeatureReader]


@pytest.fixture
def encode(store: ArtifactStore, progress, sources, model) -> Encode:
    def run(
        views: dict[str, list[View]],
        *,
        contour_width_px: int = 2,
        told: dict[str, MapSource] | None = None,
        cache: FeatureCache = "on",
        any_view: bool = False,
    ) -> FeatureReader:
        return build_features(
            store=ArtifactStore(store.root, progress=progress),
            views=views,
            encoder=ViewEncoder(
                tower=model, map_sources=told or sources, contour_width_px=contour_width_px, batch_size=2
            ),
            cache=cache,
            progress=progress,
            any_view=any_view,
        )

    return run


@pytest.fixture
def told(sources, parts) -> dict[str, MapSource]:
    """The same sources with leave to read the masks."""
    records = {record.image_id: record for record in parts.records}
    return {key: dataclasses.replace(source, gt_record=records[key]) for key, source in sources.items()}
