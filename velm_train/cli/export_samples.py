"""Training samples to the files of other trainers: one artefact a format, and the words to read it with."""

import shutil
from functools import partial
from pathlib import Path
from typing import cast

from velm_train.cli.instruct import Material
from velm_train.cli.workshop import Workshop
from velm_train.core.artifacts import StageKey
from velm_train.core.hashing import sha256_json
from velm_train.instructions.formats.names import FormatName
from velm_train.instructions.store import sample_to_json
from velm_train.pipeline.views import render_view

HOW_TO_READ: dict[FormatName, tuple[str, ...]] = {
    "anomaly_instruct": ("LLaVA: --data_path {folder}/samples.json --image_folder {folder}",),
    "sharegpt": (
        "LLaMA-Factory: dataset_dir={folder} media_dir={folder} dataset=velm_train",
        "ms-swift: ROOT_IMAGE_DIR={folder} swift sft --dataset {folder}/samples.json",
    ),
    "hf_datasets": (
        'TRL: SFTTrainer(train_dataset=datasets.load_from_disk("{folder}"), args=SFTConfig(max_length=None), ...)',
    ),
}
"""What to tell each trainer; `{folder}` is where the export lies."""


def export(shop: Workshop, material: Material) -> None:
    """Writes the training samples in every format of `task.export`; says where they are and how they are read.

    Raises:
        DataError: if a sample cannot be said in a format.
        ResourceError: if the artefact folder cannot be written.
    """
    if not shop.config.task.export:
        return
    content = sha256_json([sample_to_json(sample) for sample in material.samples])
    with shop.stage("export samples"):
        for name in shop.config.task.export:
            format_name = cast("FormatName", name)
            folder = _exported(shop, material, format_name=format_name, content=content)
            for line in (f"{format_name}: {{folder}}", *HOW_TO_READ[format_name]):
                shop.console.print(line.format(folder=folder), highlight=False, markup=False, soft_wrap=True)


def _exported(shop: Workshop, material: Material, *, format_name: FormatName, content: str) -> Path:
    """Returns where the samples lie in a format, writing them first if they are not there."""
    from velm_train.instructions.formats.exchange import EXPORT_VERSION, export_samples

    contour_width_px = shop.config.regions.contour_width_px

    def build(folder: Path) -> None:
        out = folder / format_name
        if out.exists():  # of a run that was killed before it could seal the artefact
            shutil.rmtree(out)
        export_samples(
            material.samples,
            format_name=format_name,
            out=out,
            render=partial(render_view, contour_width_px=contour_width_px),
            progress=shop.progress,
        )

    key = StageKey(
        stage="exports",
        version=EXPORT_VERSION,
        inputs={"samples": content},
        settings={"format": format_name, "contour_width_px": contour_width_px},
    )
    return shop.store.get_or_build(key, build, title=f"{format_name} export").absolute() / format_name
