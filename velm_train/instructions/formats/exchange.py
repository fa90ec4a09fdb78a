"""Samples to the files of other trainers and back: samples and a renderer in, a finished folder out, or the reverse.

samples --checked--> pictures (one file per distinct view) --> records --> folder, renamed when complete
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.errors import DataError, ResourceError
from velm_train.core.progress import Progress
from velm_train.core.records import InstructionSample, View
from velm_train.core.shapes import RGBImage
from velm_train.instructions.formats.anomaly_instruct import read_exported_anomaly_instruct, write_anomaly_instruct
from velm_train.instructions.formats.carried import Exported, turns_of
from velm_train.instructions.formats.hf_datasets import read_hf_datasets, write_hf_datasets
from velm_train.instructions.formats.names import FormatName
from velm_train.instructions.formats.pictures import PictureFolder
from velm_train.instructions.formats.sharegpt import read_sharegpt, write_sharegpt
from velm_train.instructions.wording import IMAGE_PLACEHOLDER

EXPORT_VERSION = 1
"""Raised when the same samples give other files."""

FOREIGN_PLACEHOLDERS = ("<video>", "<audio>", "<bbox>", "<ref-object>")
"""What LLaMA-Factory and ms-swift replace in texts, besides `<image>`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Format:
    """How one format is written into a folder that holds the pictures, and read back."""

    write: Callable[[Sequence[Exported], Path], None]
    read: Callable[[Path], list[InstructionSample]]


_FORMATS: dict[FormatName, _Format] = {
    "anomaly_instruct": _Format(write=write_anomaly_instruct, read=read_exported_anomaly_instruct),
    "sharegpt": _Format(write=write_sharegpt, read=read_sharegpt),
    "hf_datasets": _Format(write=write_hf_datasets, read=read_hf_datasets),
}


def export_samples(
    samples: Sequence[InstructionSample],
    *,
    format_name: FormatName,
    out: Path,
    render: Callable[[View], RGBImage],
    progress: Progress,
) -> Path:
    """Writes samples for another trainer; `import_samples` reads them back without loss.

    Until the folder is complete it is called `.<name>.partial`; one that an interrupted export left is thrown away.

    Args:
        samples: with targets; at least one.
        format_name: what to write.
        out: folder to make.
        render: turns the recipe of a view into the pixels that a model is shown.
        progress: shows one bar over the samples.

    Returns:
        `out`.

    Raises:
        DataError: if a sample cannot be said in the format, or an image cannot be read.
        ResourceError: if the folder exists or cannot be written.
    """
    _require_exportable(samples)
    if out.exists():
        raise ResourceError(f"{out} exists; delete it or export to another folder")
    partial = out.with_name(f".{out.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise ResourceError(f"cannot write {partial}: {error.strerror}; check that the folder is writable") from error
    pictures = PictureFolder(partial, render=render)
    exported: list[Exported] = []
    with progress.stage(f"export {format_name}", total=len(samples)) as advance:
        for number, sample in enumerate(samples, start=1):
            names = tuple(pictures.add(view) for view in sample.views)
            exported.append(Exported(sample=sample, pictures=names, number=number, total=len(samples)))
            advance(1)
        _FORMATS[format_name].write(exported, partial)
    partial.replace(out)
    return out


def import_samples(path: Path, *, format_name: FormatName) -> list[InstructionSample]:
    """Reads back a folder that `export_samples` wrote.

    Raises:
        DataError: naming the record that was edited, damaged or left out since, or the picture that was changed.
    """
    return _FORMATS[format_name].read(path)


def _require_exportable(samples: Sequence[InstructionSample]) -> None:
    """Refuses what other trainers would skip in silence or read differently."""
    if not samples:
        raise DataError("there is no sample to export; build the instructions first")
    seen: set[str] = set()
    for sample in samples:
        if sample.sample_id in seen:
            raise DataError(f"{sample.sample_id} occurs twice among the samples; every sample_id must be unique")
        seen.add(sample.sample_id)
        if not sample.target:
            raise DataError(f"{sample.sample_id}: no target to learn; export labelled samples only")
        if IMAGE_PLACEHOLDER in sample.target:
            raise DataError(f"{sample.sample_id}: the target holds {IMAGE_PLACEHOLDER}, which stands for a view")
        roles = [message.role for message in sample.messages]
        asked = roles[1:] if roles[:1] == ["system"] else roles
        if len(asked) % 2 == 0 or any(role != ("assistant" if i % 2 else "user") for i, role in enumerate(asked)):
            raise DataError(f"{sample.sample_id}: the turns are {roles}; user and assistant take turns, the user last")
        for _, text in turns_of(sample):
            if found := [word for word in FOREIGN_PLACEHOLDERS if word in text]:
                raise DataError(f"{sample.sample_id}: the text holds {found}, which other trainers replace; rename it")
