"""Which function turns the unpacked members of an asset into its finished files."""

from collections.abc import Callable, Mapping
from pathlib import Path

from velm_train.assets.pictures import convert_material_photos, convert_textile
from velm_train.assets.registry import AssetName
from velm_train.assets.vision_weights import convert_dinov2, convert_efficientnet

Recipe = Callable[[Path, Path], None]
"""Takes the folder of unpacked members and the empty folder to fill."""


def _smollm2(unpacked: Path, made: Path) -> None:
    from velm_train.assets.language_model import convert_smollm2  # noqa: PLC0415 - gguf is slow to import

    convert_smollm2(unpacked, made)


RECIPES: Mapping[AssetName, Recipe] = {
    "smollm2_135m_instruct": _smollm2,
    "efficientnet_lite0": convert_efficientnet,
    "dinov2_small": convert_dinov2,
    "textile_images": convert_textile,
    "material_photos": convert_material_photos,
}
"""One recipe an asset."""
