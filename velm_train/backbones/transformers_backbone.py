"""RGB batches in, patch features of every block out: a vision transformer in the layout of transformers, frozen.

(B, 3, H, W) -> patches -> block 1 -> ... -> block N -> last hidden state: each (B, C, H / patch, W / patch)
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import nn

from velm_train.backbones.protocol import FeatureMaps, LayerInfo, require_layers, require_multiple
from velm_train.backbones.quiet import quiet_transformers
from velm_train.backbones.weights import find_in_hub_cache
from velm_train.core.errors import AssetError, ConfigError
from velm_train.core.hashing import sha256_file, sha256_json

_FINAL = "final"
_CONFIG_NAME = "config.json"
_PREPROCESSING_NAMES = ("preprocessor_config.json", "processor_config.json")
_WEIGHT_SUFFIXES = (".safetensors", ".bin")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """How a family of encoders is built.

    Attributes:
        model_class: of transformers; of a model with two towers, the one that sees.
        has_class_token: whether a class token comes first.
        has_registers: whether register tokens follow it.
        asks_to_interpolate: whether position embeddings follow the image's size only when the call says so; those of
            the other kinds always do.
    """

    model_class: str
    has_class_token: bool = True
    has_registers: bool = False
    asks_to_interpolate: bool = False


_SIGLIP = _Kind(model_class="SiglipVisionModel", has_class_token=False, asks_to_interpolate=True)
_CLIP = _Kind(model_class="CLIPVisionModel", asks_to_interpolate=True)
_KINDS: Mapping[str, _Kind] = {
    "dinov2": _Kind(model_class="Dinov2Model"),
    "dinov2_with_registers": _Kind(model_class="Dinov2WithRegistersModel", has_registers=True),
    "dinov3_vit": _Kind(model_class="DINOv3ViTModel", has_registers=True),
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
}
"""`model_type` in config.json -> kind; every one of them takes images that are not square."""


class TransformersBackbone:
    """A vision transformer as a `Backbone`; heights and widths are multiples of the patch size.

    Layers `block1` .. `blockN` are the patch tokens behind that block, and `final` those of the model's own last hidden
    state: behind the last norm, except for CLIP, which has none there. Class and register tokens are left out.
    """

    layers: Mapping[str, LayerInfo]

    def __init__(self, folder: Path, *, name: str, device: torch.device) -> None:
        """Loads the model without any network and freezes it.

        Args:
            folder: config.json, weights and preprocessor_config.json in the layout of transformers.
            name: what errors call it.
            device: where the features are computed.

        Raises:
            ConfigError: if the model is of a kind that is not known here.
            AssetError: if a file is missing or the weights are not those of the model.
        """
        weight_files = _require_files(folder, name=name)
        model_type = json.loads((folder / _CONFIG_NAME).read_text())["model_type"]
        if model_type not in _KINDS:
            raise ConfigError(
                f"backbone {name} is of type {model_type!r}, which takes images of one size or is not known here; "
                f"known are {', '.join(_KINDS)}"
            )
        self._name = name
        self._kind = _KINDS[model_type]
        self.model = _load(folder, self._kind, name=name).eval().requires_grad_(requires_grad=False).to(device)
        config: Any = self.model.config
        self._patch_size: int = config.patch_size
        registers = config.num_register_tokens if self._kind.has_registers else 0
        self._num_prefix_tokens: int = self._kind.has_class_token + registers
        self._block_owner, self._block_attribute = _find_blocks(self.model, config.num_hidden_layers)
        info = LayerInfo(channels=config.hidden_size, stride=self._patch_size)
        depths = range(1, config.num_hidden_layers + 1)
        self.layers = dict.fromkeys((*(f"block{depth}" for depth in depths), _FINAL), info)
        mean, std = _read_statistics(folder, name=name)
        self.identity = sha256_json(
            {
                "model": "transformers",
                "weights": {path.name: sha256_file(path) for path in weight_files},
                "config": sha256_file(folder / _CONFIG_NAME),
                "preprocessing": {"mean": mean, "std": std},
            }
        )
        self._mean = torch.tensor(mean, device=device).reshape(3, 1, 1)
        self._std = torch.tensor(std, device=device).reshape(3, 1, 1)

    @torch.no_grad()
    def features(self, images: Float[torch.Tensor, "B 3 H W"], *, layers: Sequence[str]) -> FeatureMaps:
        """Returns the maps of the layers asked for; blocks behind the deepest of them are not computed.

        Raises:
            ConfigError: if a layer is unknown.
            DataError: if height or width is no multiple of the patch size.
        """
        require_layers(layers, self.layers, backbone=self._name)
        height, width = images.shape[-2:]
        require_multiple(height, width, of=self._patch_size, backbone=self._name)
        pixels = (images.to(self._mean.device, torch.float32) - self._mean) / self._std
        tokens = self._tokens(pixels, layers=layers)
        shape = (images.shape[0], -1, height // self._patch_size, width // self._patch_size)
        return {
            layer: tokens[layer][:, self._num_prefix_tokens :].mT.reshape(shape).float().contiguous()
            for layer in layers
        }

    def _tokens(self, pixels: Float[torch.Tensor, "B 3 H W"], *, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Returns all tokens (B, prefix + h * w, C) of the layers asked for."""
        depths = {layer: int(layer.removeprefix("block")) for layer in layers if layer != _FINAL}
        blocks: nn.ModuleList = getattr(self._block_owner, self._block_attribute)
        tokens: dict[str, torch.Tensor] = {}

        def keep(layer: str, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
            tokens[layer] = output[0] if isinstance(output, tuple) else output

        hooks = [
            blocks[depth - 1].register_forward_hook(lambda *call, layer=layer: keep(layer, call[2]))
            for layer, depth in depths.items()
        ]
        arguments = {"interpolate_pos_encoding": True} if self._kind.asks_to_interpolate else {}
        deepest = len(blocks) if _FINAL in layers else max(depths.values())
        try:
            with self._only_first_blocks(deepest):
                output = self.model(pixel_values=pixels, **arguments)
        finally:
            for hook in hooks:
                hook.remove()
        return {**tokens, _FINAL: output.last_hidden_state}

    @contextmanager
    def _only_first_blocks(self, number: int) -> Iterator[None]:
        """Takes the deeper blocks out of the model for a while; no model offers to stop earlier."""
        blocks: nn.ModuleList = getattr(self._block_owner, self._block_attribute)
        setattr(self._block_owner, self._block_attribute, blocks[:number])
        try:
            yield
        finally:
            setattr(self._block_owner, self._block_attribute, blocks)


def load_transformers(spec: str, *, device: torch.device) -> TransformersBackbone:
    """Loads a vision transformer without any network.

    Args:
        spec: a folder, or a hub id whose files lie in the local hub cache.
        device: where the features are computed.

    Raises:
        ConfigError: if the model is of a kind that is not known here.
        AssetError: if files are missing or damaged.
    """
    name = f"transformers/{spec}"
    folder = Path(spec).expanduser()
    if not folder.is_dir():
        folder = find_in_hub_cache(spec, [_CONFIG_NAME], backbone=name).parent
    return TransformersBackbone(folder, name=name, device=device)


def _require_files(folder: Path, *, name: str) -> list[Path]:
    """Returns the weight files.

    Raises:
        AssetError: naming what is missing.
    """
    weights = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHT_SUFFIXES)
    missing = [] if (folder / _CONFIG_NAME).is_file() else [_CONFIG_NAME]
    missing += [] if weights else ["model.safetensors"]
    missing += [] if any((folder / one).is_file() for one in _PREPROCESSING_NAMES) else [_PREPROCESSING_NAMES[0]]
    if missing:
        raise AssetError(
            f"backbone {name}: {folder} lacks {', '.join(missing)}; copy them from the model's page, "
            f"for a hub id with `hf download`"
        )
    return weights


def _load(folder: Path, kind: _Kind, *, name: str) -> nn.Module:
    import transformers  # noqa: PLC0415 - slow to import, and not every run has a transformer

    model_class = getattr(transformers, kind.model_class)
    try:
        with quiet_transformers():
            model, report = model_class.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report
            )
    except (OSError, SafetensorError) as error:
        raise AssetError(f"backbone {name}: {folder} cannot be read ({error}); fetch it again") from error
    # Keys too many are those of the other tower.
    unfit = sorted(report["missing_keys"]) + [key for key, *_ in report["mismatched_keys"]]
    if unfit:
        raise AssetError(
            f"backbone {name}: the weights in {folder} do not fit {kind.model_class}: "
            f"{len(unfit)} are missing or of another shape, among them {unfit[0]}"
        )
    loaded: nn.Module = model
    return loaded


def _find_blocks(model: nn.Module, number: int) -> tuple[nn.Module, str]:
    """Returns the module that holds the list of blocks, and the list's name there, which differ between versions."""
    for owner in model.modules():
        for attribute, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == number:
                return owner, attribute
    raise AssertionError(f"{type(model).__name__} has no list of {number} blocks")


def _read_statistics(folder: Path, *, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of RGB in 0..1 with which the model was trained."""
    path = next(folder / one for one in _PREPROCESSING_NAMES if (folder / one).is_file())
    content = json.loads(path.read_text())
    settings = content["image_processor"] if "image_processor" in content else content
    if "image_mean" not in settings or "image_std" not in settings:
        raise AssetError(f"backbone {name}: {path} names no image_mean and image_std; copy it from the model's page")
    return tuple(settings["image_mean"]), tuple(settings["image_std"])
