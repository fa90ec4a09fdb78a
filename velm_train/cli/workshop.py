"""What every step of a task works with: the settings, the assets, the artefacts, the clock and the display."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from velm_train.assets.library import AssetLibrary
from velm_train.cli.build_data import make_assets, make_store
from velm_train.cli.console import ConsoleProgress
from velm_train.config import Config
from velm_train.core.artifacts import ArtifactStore
from velm_train.reporting.manifest import StageMeter

MIN_WIDTH = 100
"""Columns of output that goes to a file or a pipe, so that tables are not folded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """Settings and tools of one run.

    Attributes:
        run_folder: of this run, or None for tasks that leave none.
        meter: seconds and peak memory by stage.
    """

    config: Config
    console: Console
    progress: ConsoleProgress
    assets: AssetLibrary
    store: ArtifactStore
    meter: StageMeter
    run_folder: Path | None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures one stage: wall seconds, peak memory, and whether finished artefacts were all it needed."""
        num_built, num_reused = self.store.num_built, self.store.num_reused
        with self.meter.measure(name):
            yield
        if self.store.num_built == num_built and self.store.num_reused > num_reused:
            self.meter.stages[-1] = dataclasses.replace(self.meter.stages[-1], reused=True)


def open_workshop(config: Config, *, run_folder: Path | None) -> Workshop:
    """Returns the tools of a run; nothing is fetched or written yet."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, MIN_WIDTH)
    progress = ConsoleProgress(console)
    return Workshop(
        config=config,
        console=console,
        progress=progress,
        assets=make_assets(config, progress=progress),
        store=make_store(config, progress=progress),
        meter=StageMeter(),
        run_folder=run_folder,
    )
