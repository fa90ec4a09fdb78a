"""A module and example inputs in, an ONNX file and proof that it computes the same out."""

import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from velm_train.core.errors import ExportError, ResourceError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What the exporter and its check need; none of it is needed for anything else."""

_INLINE_BYTES = 2**30
"""Weights above this go to a file beside the graph; protobuf holds at most 2 GiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxParity:
    """How far a graph is from the module it was made of.

    Attributes:
        file: of the graph.
        outputs: name -> largest absolute difference over all inputs tried.
        relative: the largest of these differences, each as a share of the largest absolute value of its output.
        num_rows: tiles or pictures tried.
    """

    file: str
    outputs: dict[str, float]
    relative: float
    num_rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxModule:
    """A module whose inputs and outputs have names.

    Attributes:
        module: takes the inputs in their order, gives a tuple of tensors.
        outputs: their names.
        dynamic: input name -> dimension -> name of what may vary; equal names vary together.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, str]]


def require_onnx() -> None:
    """Refuses to go on without the optional packages.

    Raises:
        ResourceError: naming those that are missing and how to install them.
    """
    missing = []
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ResourceError(
            f"ONNX files need {', '.join(missing)}; run `pip install -c constraints.txt -e '.[onnx]'`, or leave "
            "export.onnx=false"
        )


def write_onnx(graph: OnnxModule, example: Mapping[str, torch.Tensor], path: Path) -> None:
    """Exports a module.

    Args:
        graph: in evaluation mode.
        example: input name -> a real one, in the order in which the module takes them.
        path: of the file to write.

    Raises:
        ResourceError: if an optional package is missing.
        ExportError: if the exporter cannot express the module.
    """
    require_onnx()
    dimensions: dict[str, Any] = {}
    shapes = {
        name: {axis: dimensions.setdefault(what, torch.export.Dim(what)) for axis, what in axes.items()}
        for name, axes in graph.dynamic.items()
    }
    num_bytes = sum(weight.nbytes for weight in graph.module.parameters())
    with _quiet(), torch.no_grad():
        try:
            torch.onnx.export(
                graph.module,
                tuple(_typical(name, value, graph.dynamic) for name, value in example.items()),
                path,
                dynamo=True,
                dynamic_shapes=tuple(shapes[name] or None for name in example),
                input_names=list(example),
                output_names=list(graph.outputs),
                external_data=num_bytes > _INLINE_BYTES,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(
                f"{path.name} cannot be made ({_line(error.__cause__ or error)}); leave export.onnx=false"
            ) from error


@torch.no_grad()
def measure_parity(graph: OnnxModule, tried: Sequence[Mapping[str, torch.Tensor]], path: Path) -> OnnxParity:
    """Runs file and module on the same inputs.

    Args:
        graph: what the file was made of.
        tried: one or more sets of inputs.
        path: of the file.

    Raises:
        ExportError: if a size that should vary is fixed in the file.
        ResourceError: if an optional package is missing.
    """
    require_onnx()
    session = importlib.import_module("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {entry.name: entry.shape for entry in session.get_inputs()}  # inputs without influence are left out
    _require_varying(path, taken, graph.dynamic)
    largest = dict.fromkeys(graph.outputs, 0.0)
    scale = dict.fromkeys(graph.outputs, 0.0)
    for inputs in tried:
        found = session.run(
            list(graph.outputs), {name: value.numpy() for name, value in inputs.items() if name in taken}
        )
        expected = graph.module(*inputs.values())
        for name, got, own in zip(graph.outputs, found, expected, strict=True):
            difference = np.abs(got.astype(np.float64) - own.double().numpy()).max()
            largest[name] = _worse(largest[name], float(difference))
            scale[name] = max(scale[name], float(own.abs().max()))
    shares = [largest[name] / scale[name] if scale[name] > 0 else largest[name] for name in graph.outputs]
    return OnnxParity(
        file=path.name,
        outputs=largest,
        relative=float("inf") if any(np.isnan(shares)) else max(shares),
        num_rows=sum(len(next(iter(inputs.values()))) for inputs in tried),
    )


def _require_varying(
    path: Path, taken: Mapping[str, Sequence[int | str]], dynamic: Mapping[str, Mapping[int, str]]
) -> None:
    fixed = {
        what: shape[axis]
        for name, shape in taken.items()
        for axis, what in dynamic[name].items()
        if isinstance(shape[axis], int)
    }
    if fixed:
        raise ExportError(
            f"{path.name} takes a fixed number of {', '.join(f'{what} ({size})' for what, size in fixed.items())}: the "
            "module's code depends on it; leave export.onnx=false"
        )


def require_parity(parity: OnnxParity, *, tolerance: float) -> None:
    """Refuses a graph that computes something else.

    Args:
        parity: as measured.
        tolerance: largest difference as a share of the output's largest value.

    Raises:
        ExportError: with the figures.
    """
    if not parity.relative <= tolerance:
        raise ExportError(
            f"{parity.file}: largest difference to the module is {parity.relative:.2e} of the largest value, allowed "
            f"are {tolerance:.2e} (export.onnx_tolerance); nothing is kept; raise the tolerance if that is precise "
            "enough, or leave export.onnx=false"
        )


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" if str(error) else type(error).__name__


def _typical(name: str, value: torch.Tensor, dynamic: Mapping[str, Mapping[int, str]]) -> torch.Tensor:
    """Returns an input whose varying dimensions are at least 2: an exporter takes a 1 for a fixed size."""
    for axis in dynamic[name]:
        if value.shape[axis] == 1:
            value = torch.cat([value, value], dim=axis)
    return value


def _worse(old: float, new: float) -> float:
    return float("nan") if np.isnan(old) or np.isnan(new) else max(old, new)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's advice to its own authors off the console."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
