"""A finished run's folder in; an object that names the defects on new pictures out. For use from Python.

inspector = Inspector.load("outputs/runs/textures/2026-01-31_12-00-00")
found = inspector.inspect("part_0815.png", category="wood_oak")
"""

from pathlib import Path

import torch

from velm_train.cli.load_inspector import build_inspector, read_run
from velm_train.evaluation import inspector as evaluation_inspector
from velm_train.models.build import quiet_transformers


class Inspector(evaluation_inspector.Inspector):
    """A finished system; `load` makes it, `inspect` judges one picture, `inspect_many` a batch."""

    @classmethod
    def load(
        cls,
        run_folder: str | Path,
        *,
        artifacts: str | Path | None = None,
        assets: str | Path | None = None,
        abstain_below: float | None = None,
        threads: int | None = None,
    ) -> "Inspector":
        """Loads gate, detectors, model and adapter of a finished run; takes seconds, and no network.

        Args:
            run_folder: what task=run or task=train left.
            artifacts: folder of finished stages; None for the one the run used.
            assets: folder of fetched weights; None for the one the run used.
            abstain_below: answers less probable than this, 0 to 1, are called "unsure"; None for what the run's own
                calibration of answers says, 0 for none.
            threads: CPU threads of torch, 1 or more, for the whole process; None leaves them as they are.

        Raises:
            ArtifactError: if something of the run is gone, naming it and how to make it anew.
            AssetError: if weights cannot be had.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        quiet_transformers()
        run = read_run(Path(run_folder).expanduser(), artifacts=_path(artifacts), assets=_path(assets))
        return build_inspector(run, kind=cls, abstain_below=abstain_below)


def _path(folder: str | Path | None) -> Path | None:
    return None if folder is None else Path(folder).expanduser()
