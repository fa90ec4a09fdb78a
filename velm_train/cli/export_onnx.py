"""A run's look-twice adapter and its detector's backbone in, checked ONNX files out."""

from collections.abc import Sequence
from pathlib import Path

from velm_train.backbones.load import load_backbone
from velm_train.backbones.preprocess import resize_batch
from velm_train.cli.instruct import collator
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.core.images import read_rgb
from velm_train.evaluation.gated import GatedImage as AskedImage
from velm_train.models.export.onnx_export import export_backbone, export_look_twice
from velm_train.models.export.onnx_graph import OnnxParity


def write_onnx_files(
    run: Workshop, taught: Taught, images: Sequence[AskedImage], folder: Path, *, tolerance: float
) -> dict[str, OnnxParity]:
    """Writes what a run has of the two, each compared with its module on the test images; says what it has not.

    Args:
        run: with the run's settings.
        taught: its model, renderer and features.
        images: flagged test images.
        folder: made here.
        tolerance: largest difference as a share of an output's largest value.

    Raises:
        ConfigError: if a graph cannot express the adapter or the backbone.
        ExportError: if a graph computes something else.
    """
    folder.mkdir()
    written: dict[str, OnnxParity] = {}
    if taught.model.look_twice is None:
        run.progress.note("no look_twice.onnx: the run has no second look")
    else:
        collate = collator(run, renderer=taught.renderer, features=taught.features)
        evidence = [collate([image.questions[0].prompt]).evidence for image in images]
        taught.model.eval()
        written["look_twice"] = export_look_twice(taught.model, evidence, folder, tolerance=tolerance)
    detector = run.config.detector
    if detector.maps is not None or detector.anomalib is not None:
        run.progress.note(f"no backbone.onnx: detector {detector.name} has no backbone of this project")
    else:
        views = {view.image_path: None for image in images for view in image.questions[0].prompt.sample.views}
        size_hw = (detector.input_height_px, detector.input_width_px)
        written["backbone"] = export_backbone(
            load_backbone(detector.backbone, assets=run.assets),
            resize_batch([read_rgb(path) for path in views], size_hw),
            folder,
            layers=detector.layers,
            tolerance=tolerance,
        )
    return written
