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
from velm_train.cli.ranks import meeting_of
from velm_train.config import Config
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.meeting import ALONE, Meeting
from velm_train.core.ranks import ONLY_RANK, Rank
from velm_train.reporting.manifest import StageMeter

MIN_WIDTH = 100
"""Columns of output that goes to a file or a pipe, so that tables are not folded."""

PATIENCE_SECONDS = 2.0
"""How long the other processes leave an artefact to the first, which shows its progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """Settings and tools of one run.

    Attributes:
        run_folder: of this run, or None for tasks that leave none; of its own for each process but the first.
        meter: seconds and peak memory by stage.
        meeting: where the processes of the run agree, and which of them this one is.
    """

    config: Config
    console: Console
    progress: ConsoleProgress
    assets: AssetLibrary
    store: ArtifactStore
    meter: StageMeter
    run_folder: Path | None
    meeting: Meeting = ALONE

    @property
    def rank(self) -> Rank:
        """This process of the run."""
        return self.meeting.rank

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures one stage: wall seconds, peak memory, and whether finished artefacts were all it needed."""
        num_built, num_reused = self.store.num_built, self.store.num_reused
        with self.meter.measure(name):
            yield
        if self.store.num_built == num_built and self.store.num_reused > num_reused:
            self.meter.stages[-1] = dataclasses.replace(self.meter.stages[-1], reused=True)


def open_workshop(config: Config, *, run_folder: Path | None, rank: Rank = ONLY_RANK) -> Workshop:
    """Returns the tools of a run; nothing is fetched or written yet. Of several processes the first alone is seen."""
    console = Console(quiet=not rank.is_first)
    if not console.is_terminal:
        console.width = max(console.width, MIN_WIDTH)
    progress = ConsoleProgress(console)
    return Workshop(
        config=config,
        console=console,
        progress=progress,
        assets=make_assets(config, progress=progress),
        store=make_store(config, progress=progress, patience_s=0.0 if rank.is_first else PATIENCE_SECONDS),
        meter=StageMeter(),
        run_folder=run_folder,
        meeting=ALONE if run_folder is None else meeting_of(run_folder, rank),
    )
