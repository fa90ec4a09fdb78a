"""A model's name, its arguments and good images go in; anomalib's module, built and trained, comes out.

anomalib and its Lightning are imported inside the functions: the import takes many seconds.
"""

import difflib
import inspect
import json
import logging
import random
import re
import tempfile
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from velm_train.core.errors import AssetError, ConfigError
from velm_train.core.records import SizeHW

_FIXED_ARGUMENTS = ("pre_processor", "post_processor", "evaluator", "visualizer")
"""What the adapter decides about; outputs would not be raw otherwise."""

Arguments = dict[str, Any]
"""Keyword arguments of a model, as JSON can hold them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnomalibSettings:
    """Every knob that changes what a model outputs.

    Attributes:
        model: class name in anomalib.models.image, such as "Padim".
        arguments: keyword arguments of that class as a JSON object, "{}" for its defaults.
        max_epochs: training epochs; models without training take one pass whatever this says.
        input_hw: size in pixels to which images are resized.
        seed: of everything random in anomalib.
    """

    model: str
    arguments: str
    max_epochs: int
    input_hw: SizeHW
    seed: int

    def __post_init__(self) -> None:
        """Names the first setting that is impossible.

        Raises:
            ConfigError: with the value got and the values allowed.
        """
        if self.max_epochs < 1:
            raise ConfigError(f"detector.anomalib.max_epochs is {self.max_epochs}; must be at least 1")
        parse_arguments(self.arguments)


def parse_arguments(text: str) -> Arguments:
    """Returns the keyword arguments that a JSON text holds.

    Raises:
        ConfigError: if it holds anything but an object, or arguments that are not for the user to choose.
    """
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"detector.anomalib.arguments is {text!r}; write a JSON object ({error})") from error
    if not isinstance(arguments, dict):
        raise ConfigError(f"detector.anomalib.arguments is {text!r}; write a JSON object such as {{}}")
    fixed = sorted(set(arguments) & set(_FIXED_ARGUMENTS))
    if fixed:
        raise ConfigError(f"detector.anomalib.arguments sets {fixed}; leave them out, scores are read raw")
    return arguments


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seeds the global generators that anomalib draws from, and gives them back afterwards as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - anomalib's own
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - anomalib's own
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002 - anomalib's own


def build_module(
    name: str, arguments: Mapping[str, Any], *, input_hw: SizeHW, optional: Collection[str] = ()
) -> nn.Module:
    """Returns an anomalib module that resizes to `input_hw`, crops nothing, and leaves scores raw.

    Args:
        name: class name.
        arguments: of the class.
        input_hw: size of the images.
        optional: arguments that are dropped where the class does not know them.

    Raises:
        AssetError: if pretrained weights cannot be had.
        ConfigError: if the class or an argument is unknown, or the class refuses the arguments.
    """
    from anomalib.models import image as models  # noqa: PLC0415 - slow to import

    if name not in models.__all__:
        near = difflib.get_close_matches(name, models.__all__, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"detector.anomalib.model is {name!r}; known are {', '.join(models.__all__)}{hint}")
    model_class = getattr(models, name)
    known = [one for one in inspect.signature(model_class).parameters if one not in _FIXED_ARGUMENTS]
    unknown = sorted(set(arguments) - set(known) - set(optional))
    if unknown:
        raise ConfigError(f"detector.anomalib.arguments: {name} has no {unknown}; known are {', '.join(known)}")
    chosen = {one: arguments[one] for one in arguments if one in known}
    try:
        module: nn.Module = model_class(
            **chosen,
            pre_processor=_pre_processor(model_class, input_hw),
            post_processor=False,
            evaluator=False,
            visualizer=False,
        )
    except OSError as error:
        raise AssetError(_missing_weights(name, error)) from error
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"detector.anomalib.model {name} cannot be built with {chosen}: {error}") from error
    _require_one_class(module, name)
    return module


def network_of(module: nn.Module) -> nn.Module:
    """Returns the network inside a module, without anything of Lightning."""
    assert isinstance(module.model, nn.Module), "every module of anomalib has one"
    return module.model


def fit_module(
    module: nn.Module,
    pixels: UInt8[Tensor, "I 3 H W"],
    *,
    max_epochs: int,
    batch_size: int,
    device: torch.device,
    name: str,
) -> None:
    """Trains a module with anomalib's Engine; what it writes goes to a folder that vanishes.

    Args:
        module: from `build_module`.
        pixels: good images of its input size.
        max_epochs: training epochs, unless the module sets its own.
        batch_size: images at a time.
        device: "cpu" or a CUDA device.
        name: what errors call it.

    Raises:
        AssetError: if files it loads on the way cannot be had.
        ConfigError: if it cannot be trained on good images alone.
    """
    from anomalib.engine import Engine  # noqa: PLC0415 - slow to import
    from lightning.pytorch.plugins.environments import LightningEnvironment  # noqa: PLC0415 - slow to import

    with tempfile.TemporaryDirectory() as folder, _quiet_lightning():
        engine = Engine(
            default_root_dir=folder,
            max_epochs=max_epochs,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            plugins=[LightningEnvironment()],  # one process, even inside a cluster job of many
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
        )
        try:
            engine.fit(module, datamodule=_data_module(pixels, batch_size=batch_size))
        except OSError as error:
            raise AssetError(_missing_weights(name, error)) from error
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"detector.anomalib.model {name} cannot be trained on {len(pixels)} good images of "
                f"{pixels.shape[2]}x{pixels.shape[3]} pixels: {error}"
            ) from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keeps anomalib's Lightning from reporting on itself in the middle of the program's own lines."""
    chatter = logging.getLogger("lightning.pytorch")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        yield
    finally:
        chatter.setLevel(level)


def _data_module(pixels: UInt8[Tensor, "I 3 H W"], *, batch_size: int) -> Any:  # noqa: ANN401 - its class is made here
    """Returns a data module that yields the images as anomalib's batches; masks and labels are absent."""
    from anomalib.data import ImageBatch  # noqa: PLC0415 - slow to import
    from lightning.pytorch import LightningDataModule  # noqa: PLC0415 - slow to import
    from torch.utils.data import DataLoader, TensorDataset  # noqa: PLC0415 - with the rest

    def collate(rows: list[tuple[Tensor]]) -> ImageBatch:
        images = torch.stack([row[0] for row in rows]).float() / 255
        return ImageBatch(image=images, gt_label=torch.zeros(len(rows), dtype=torch.bool))

    class Normals(LightningDataModule):  # type: ignore[misc] # lightning is not followed
        name = "normals"
        category = ""
        train_batch_size = batch_size

        def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
            return DataLoader(TensorDataset(pixels), batch_size=batch_size, shuffle=True, collate_fn=collate)

    return Normals()


def _pre_processor(model_class: Any, input_hw: SizeHW) -> nn.Module:  # noqa: ANN401 - anomalib has no common type
    """Returns the model's own normalisation behind a resize; its crop is dropped, so that a map covers the image."""
    from anomalib.pre_processing import PreProcessor  # noqa: PLC0415 - slow to import
    from torchvision.transforms import v2  # noqa: PLC0415 - with the rest

    transform = model_class.configure_pre_processor().transform
    parts = list(transform.transforms) if isinstance(transform, v2.Compose) else [transform]
    kept = [one for one in parts if not isinstance(one, v2.Resize | v2.CenterCrop)]
    pre_processor: nn.Module = PreProcessor(transform=v2.Compose([v2.Resize(input_hw, antialias=True), *kept]))
    return pre_processor


def _require_one_class(module: Any, name: str) -> None:  # noqa: ANN401 - anomalib has no stable type
    from anomalib import LearningType  # noqa: PLC0415 - slow to import

    if module.learning_type != LearningType.ONE_CLASS:
        raise ConfigError(
            f"detector.anomalib.model {name} is of kind {module.learning_type.value}; choose one that learns from good "
            "images (one_class)"
        )


def _missing_weights(name: str, error: BaseException) -> str:
    """Returns which file is missing and where it is looked for."""
    import huggingface_hub.constants  # noqa: PLC0415 - with the rest

    wanted = next(_addresses(error), str(error))
    return (
        f"detector.anomalib.model {name} needs {wanted}, which is not on disk and could not be fetched; it is looked "
        f"for in {huggingface_hub.constants.HF_HUB_CACHE} and {torch.hub.get_dir()}: fetch it once with a connection, "
        "or choose another backbone or pre_trained false in detector.anomalib.arguments where the model has these"
    )


def _addresses(error: BaseException) -> Iterator[str]:
    """Yields the addresses that an error speaks of, or that the functions it came through were given."""
    cause: BaseException | None = error
    while cause is not None:
        yield from (found.rstrip(":") for found in re.findall(r"https?://[^\s'\"]+", str(cause)))
        for frame, _ in traceback.walk_tb(cause.__traceback__):
            if isinstance(url := frame.f_locals.get("url"), str):
                yield url
        cause = cause.__cause__ or cause.__context__
