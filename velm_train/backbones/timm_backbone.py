"""RGB batches in, feature maps of named layers out: any timm model that gives intermediate features, frozen.

convolutional and hierarchical models: (B, 3, H, W) -> stage1 .. stageN, each with its own stride
vision transformers:                   (B, 3, H, W) -> block1 .. blockN -> final norm: (B, C, H / patch, W / patch)
"""

import difflib
import logging
import pickle
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import nn

from velm_train.backbones.protocol import FeatureMaps, LayerInfo, require_layers, require_multiple
from velm_train.backbones.weights import find_in_hub_cache, hash_tensors
from velm_train.core.errors import AssetError, ConfigError, DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import SizeHW

logger = logging.getLogger(__name__)

_FINAL = "final"
_RANDOM = "random"
_RANDOM_SEED = 0
_MAX_REASON = 300
"""Characters of torch's own words in an error; it may list every weight of a model."""

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


class TimmBackbone:
    """A timm model as a `Backbone`.

    Stages are counted from 1 as timm lists them: of a ResNet `stage1` is the stem at stride 2, so that its `layer2` is
    `stage3`. Blocks of a transformer are counted from 1 too, taken before any norm; `final` lies behind the last norm.
    Class and register tokens are left out. Position embeddings are interpolated to the image's grid as timm does.
    Heights and widths are multiples of the largest stride; a model that cannot change its size takes that size alone.
    """

    layers: Mapping[str, LayerInfo]

    def __init__(self, model: nn.Module, *, name: str, device: torch.device) -> None:
        """Freezes a model.

        Args:
            model: as `timm.create_model` gives it.
            name: what errors call it.
            device: where the features are computed.

        Raises:
            ConfigError: if the model gives no intermediate features.
        """
        if not hasattr(model, "forward_intermediates"):
            raise ConfigError(f"backbone {name} gives no intermediate features; choose another timm model")
        source: Any = model
        self._name = name
        self.model = source.eval().requires_grad_(requires_grad=False).to(device)
        self._num_prefix_tokens: int | None = getattr(model, "num_prefix_tokens", None)  # of transformers alone
        infos = source.feature_info if isinstance(source.feature_info, list) else source.feature_info.get_dicts()
        word = "stage" if self._num_prefix_tokens is None else "block"
        layers = {
            f"{word}{number}": LayerInfo(channels=info["num_chs"], stride=info["reduction"])
            for number, info in enumerate(infos, start=1)
        }
        self._index_of = {layer: index for index, layer in enumerate(layers)}
        if self._num_prefix_tokens is not None:
            layers[_FINAL] = layers[f"block{len(infos)}"]
            self._index_of[_FINAL] = len(infos) - 1
        self.layers = layers
        self._size_multiple = max(info.stride for info in layers.values())
        config: Mapping[str, Any] = source.pretrained_cfg
        follows_size = not config["fixed_input_size"] or getattr(model, "dynamic_img_size", False)
        self._fixed_size_hw: SizeHW | None = None if follows_size else tuple(config["input_size"][1:])
        self.identity = sha256_json(
            {
                "model": f"timm/{config['architecture']}",
                "weights": hash_tensors(self.model.state_dict()),
                "preprocessing": {"mean": config["mean"], "std": config["std"]},
            }
        )
        # Convolutions are up to 1.7 times as fast with channels last; models of tokens gain nothing.
        self._memory_format = torch.channels_last if self._num_prefix_tokens is None else torch.contiguous_format
        self.model.to(memory_format=self._memory_format)
        self._mean = torch.tensor(config["mean"], device=device).reshape(3, 1, 1)
        self._std = torch.tensor(config["std"], device=device).reshape(3, 1, 1)

    @torch.no_grad()
    def features(self, images: Float[torch.Tensor, "B 3 H W"], *, layers: Sequence[str]) -> FeatureMaps:
        """Returns the maps of the layers asked for; what lies behind the deepest of them is not computed.

        Raises:
            ConfigError: if a layer is unknown.
            DataError: if height or width does not suit the model.
        """
        require_layers(layers, self.layers, backbone=self._name)
        height, width = images.shape[-2:]
        require_multiple(height, width, of=self._size_multiple, backbone=self._name)
        if self._fixed_size_hw is not None and self._fixed_size_hw != (height, width):
            fixed_height, fixed_width = self._fixed_size_hw
            raise DataError(
                f"backbone {self._name} got images of {height}x{width} pixels but takes one size alone; "
                f"resize to {fixed_height}x{fixed_width} or choose another model"
            )
        pixels = (images.to(self._mean.device, torch.float32) - self._mean).div_(self._std)
        pixels = pixels.contiguous(memory_format=self._memory_format)
        indices = sorted({self._index_of[layer] for layer in layers})
        to_the_end = _FINAL in layers
        output = self.model.forward_intermediates(
            pixels, indices=indices, stop_early=not to_the_end, output_fmt="NCHW", intermediates_only=not to_the_end
        )
        tokens, maps = output if to_the_end else (None, output)
        found = dict(zip(indices, maps, strict=True))
        named = {layer: found[self._index_of[layer]] for layer in layers}
        if tokens is not None:
            named[_FINAL] = tokens[:, self._num_prefix_tokens :].mT.reshape(maps[-1].shape)
        return {layer: features.float().contiguous() for layer, features in named.items()}


def load_timm(spec: str, *, device: torch.device) -> TimmBackbone:
    """Loads a timm model without any network.

    Args:
        spec: `<model>` for the published weights out of the local hub cache, `<model>@<file>` for weights of one's
            own, `<model>@random` for random weights, which serve tests and benchmarks alone.
        device: where the features are computed.

    Raises:
        ConfigError: if timm is not installed or does not know the model.
        AssetError: if the weights are not there or do not fit.
    """
    try:
        import timm  # noqa: PLC0415 - slow to import, and an extra
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"backbone timm/{spec} needs timm, which is not installed: pip install -c constraints.txt timm"
        ) from error
    model_name, _, source = spec.partition("@")
    name = f"timm/{model_name}"
    if not timm.is_model(model_name):
        near = difflib.get_close_matches(model_name, timm.list_models(), n=1)
        hint = f"; did you mean timm/{near[0]}?" if near else "; see timm.list_models()"
        raise ConfigError(f"unknown backbone {name}{hint}")
    if source == _RANDOM:
        logger.warning("backbone %s has random weights: its features mean nothing", name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RANDOM_SEED)
            return TimmBackbone(_create(model_name, weights=None), name=name, device=device)
    path = Path(source) if source else _published_weights(model_name)
    try:
        model = _create(model_name, weights=_read_weights(path, backbone=name))
    except RuntimeError as error:  # torch's word for weights of another model
        raise AssetError(
            f"backbone {name}: {path} does not hold its weights ({textwrap.shorten(str(error), _MAX_REASON)})"
        ) from error
    return TimmBackbone(model, name=name, device=device)


def _published_weights(model_name: str) -> Path:
    import timm  # noqa: PLC0415

    config = timm.get_pretrained_cfg(model_name)
    if config is None or not config.hf_hub_id:
        raise AssetError(
            f"backbone timm/{model_name} has no published weights; "
            f"name a file with timm/{model_name}@<file> or another model"
        )
    names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    try:
        return find_in_hub_cache(config.hf_hub_id, names, backbone=f"timm/{model_name}")
    except AssetError as error:
        raise AssetError(f"{error}; a weights file of your own is named with timm/{model_name}@<file>") from error


def _read_weights(path: Path, *, backbone: str) -> dict[str, torch.Tensor]:
    import timm  # noqa: PLC0415

    if not path.is_file() or path.suffix not in _SUFFIXES:
        raise AssetError(f"backbone {backbone}: {path} is no weights file; give one of {', '.join(_SUFFIXES)}")
    try:
        weights: dict[str, torch.Tensor] = timm.models.load_state_dict(str(path), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, SafetensorError) as error:
        raise AssetError(
            f"backbone {backbone}: {path} cannot be read as plain weights; "
            f"fetch it again, or save the model's state_dict as .safetensors"
        ) from error
    return weights


def _create(model_name: str, *, weights: Mapping[str, torch.Tensor] | None) -> nn.Module:
    """Returns the model without its classifier, for any image size where it can be told so."""
    import timm  # noqa: PLC0415

    arguments: dict[str, Any] = {"num_classes": 0}
    if weights is not None:
        config = timm.get_pretrained_cfg(model_name)
        classifiers = config.classifier if config is not None and config.classifier else ()
        heads = tuple(f"{head}." for head in ([classifiers] if isinstance(classifiers, str) else classifiers))
        arguments["pretrained"] = True
        # Without a classifier in it timm loads strictly, so that no weight stays random unnoticed.
        arguments["pretrained_cfg_overlay"] = {
            "state_dict": {key: value for key, value in weights.items() if not key.startswith(heads)},
            "num_classes": 0,
            "classifier": None,
        }
    try:
        model: nn.Module = timm.create_model(model_name, dynamic_img_size=True, **arguments)
    except TypeError:  # the model has no such argument
        model = timm.create_model(model_name, **arguments)
    return model
