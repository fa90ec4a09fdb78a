"""Settings for the export of a finished run."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, inside, one_of, require

EXPORT_DTYPES = ("float32", "bfloat16")


@dataclass(kw_only=True, slots=True)
class ExportConfig:
    """What `task=export` makes of the run in `ckpt`, and how exactly it has to agree.

    Attributes:
        folder: where the export lies when it is finished; null for the folder export in the run's own.
        num_images: flagged test images whose answers are compared, 1 or more; all of them if there are fewer.
        dtype: number type of the merged weights, and of the comparison: float32, or bfloat16 for half the size.
        tolerance_nats: largest difference of a log-likelihood between adapter, merged and reloaded model, above 0.
        onnx: whether look-twice adapter and the detector's backbone are written as ONNX files as well.
        onnx_tolerance: largest difference of a graph to its module, as a share of an output's largest value, above 0,
            below 1.
    """

    folder: str | None
    num_images: int
    dtype: str
    tolerance_nats: float
    onnx: bool
    onnx_tolerance: float

    def __post_init__(self) -> None:
        """Checks the values."""
        require(self.folder != "", key="export.folder", got="''", allowed="a folder, or null for the run's own")
        at_least("export.num_images", self.num_images, 1)
        one_of("export.dtype", self.dtype, EXPORT_DTYPES)
        inside("export.tolerance_nats", self.tolerance_nats, 0.0, 100.0)
        inside("export.onnx_tolerance", self.onnx_tolerance, 0.0, 1.0)
