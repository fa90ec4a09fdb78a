"""What several finished runs say side by side: figures, differing settings, paired tests; plain enough for JSON.

finished run folders -> cli/compare -> metrics/paired, metrics/seeds -> Comparison -> reporting/compare_* -> pages
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from velm_train.core.plain import read_record
from velm_train.core.scores import PairedDifference, Score
from velm_train.core.study import StudyFacts

RunSource = Literal["run folder", "W&B folder"]

ALL_IMAGES = "all images"
"""Name of the set of all shared images, beside groups such as seen and unseen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """The training loss at one logged step."""

    step: int
    loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCost:
    """What a run took, as far as it is known.

    Attributes:
        seconds_per_image: stage -> mean seconds over the test images that went through it; empty if not known.
        wall_seconds: of the whole run, or None.
        reused_stages: stages that read a finished artefact, so that the wall time leaves them out.
        peak_memory_bytes: highest resident memory of any stage, or None.
        accelerator_peak_bytes: highest memory on the accelerator, or None without one.
    """

    seconds_per_image: dict[str, float]
    wall_seconds: float | None
    reused_stages: tuple[str, ...]
    peak_memory_bytes: int | None
    accelerator_peak_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRun:
    """One column of the comparison.

    Attributes:
        label: a letter, A for the first.
        name: shortest unambiguous end of the folder's path.
        folder: as given or found.
        seed: of the run, or None if its settings do not say.
        num_images: test images, 0 if not known.
        marks: what must be said beside every figure, such as another gate policy.
        scores: figure name (the name that loggers use) -> score.
        curve: training loss by step; empty without W&B history.
    """

    label: str
    name: str
    folder: str
    source: RunSource
    seed: int | None
    num_images: int
    marks: tuple[str, ...]
    scores: dict[str, Score]
    cost: RunCost
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingDifference:
    """One thing that is not the same in all runs; values are JSON texts in the order of the runs.

    Attributes:
        values: None where a run does not have it.
    """

    key: str
    values: tuple[str | None, ...]

    @property
    def known_to_all(self) -> bool:
        """True if every run has it."""
        return None not in self.values


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageMatch:
    """How the test images of two runs correspond: same name, same content, same true type.

    Attributes:
        num_changed: images of the same name with another content.
        num_relabelled: images of the same name and content with another true type.
    """

    num_shared: int
    num_only_first: int
    num_only_other: int
    num_changed: int
    num_relabelled: int

    @property
    def is_complete(self) -> bool:
        """True if both runs tested exactly the same images."""
        return not (self.num_only_first or self.num_only_other or self.num_changed or self.num_relabelled)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedTest:
    """The tests of one pair on one set of shared images.

    Attributes:
        images: ALL_IMAGES, or the name of a group of categories.
        paired: other minus first.
        adjusted_p_value: McNemar's p-value after Holm's correction over the pairs tested on this set.
    """

    images: str
    num_images: int
    paired: PairedDifference
    adjusted_p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPair:
    """Two runs on the images that both tested.

    Attributes:
        first: label of the run to compare with.
        other: label of the run whose advantage is measured.
        match: None if it cannot be told which images are the same.
        tests: all shared images first, then each group; empty if no test is possible.
        note: why there is no test, or on what the tests rest; "" if on all images of both.
    """

    first: str
    other: str
    match: ImageMatch | None
    tests: tuple[PairedTest, ...]
    note: str

    def test(self, images: str) -> PairedTest | None:
        """Returns the test on one set of images, or None."""
        return next((test for test in self.tests if test.images == images), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Mean of several runs' figures and how far they lie apart.

    Attributes:
        std: sample standard deviation (n - 1), or None for one run.
    """

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedGroup:
    """Runs that are equal in everything but the seed.

    Attributes:
        labels: of the runs that count, one for each seed, in the order of the seeds.
        repeats: labels of further runs of a seed that already counts.
        figures: figure name -> spread over the runs that have it.
    """

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    repeats: tuple[str, ...]
    figures: dict[str, Spread]


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedFolder:
    """A folder that is not compared, with the reason."""

    folder: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRow:
    """The runs of a sweep that differ in nothing but their seed.

    Attributes:
        settings: of the sweep's keys, in their order, as written on the command line.
        labels: of the runs, one for each seed.
        values: the objective of each, 0 to 1.
        mean: of these, or None without any.
        low: lower end of the 95 % interval: of the mean over seeds (Student's t), or of the one run there is.
        high: upper end.
    """

    settings: tuple[str, ...]
    labels: tuple[str, ...]
    values: tuple[float, ...]
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class UnfinishedJob:
    """A job of a sweep that gave no figure, with what became of it."""

    number: int
    settings: tuple[str, ...]
    state: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """The jobs of one sweep, together.

    Attributes:
        name: of its folder.
        objective: the figure that its rows are ordered by, "all", "seen" or "unseen".
        keys: settings and groups that differ between its jobs, but for the seed.
        rows: highest mean first.
        unfinished: jobs without a figure, by number.
        study: what Optuna drew, or None for a sweep of all combinations.
    """

    name: str
    objective: str
    keys: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    unfinished: tuple[UnfinishedJob, ...]
    study: StudyFacts | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Everything that the pages show.

    Attributes:
        differences: settings that are not the same in all runs.
        num_equal: settings that are.
        circumstances: places, versions and machines that are not the same in all runs.
        sweeps: those among the runs that are jobs of one sweep, sweep by sweep.
        skipped: folders below the given ones that are not compared.
        notices: sentences that a reader must not miss.
        num_bootstrap: resamples for each interval of a difference.
        seed: of the resampling.
    """

    title: str
    runs: tuple[ComparedRun, ...]
    differences: tuple[SettingDifference, ...]
    num_equal: int
    circumstances: tuple[SettingDifference, ...]
    pairs: tuple[RunPair, ...]
    seed_groups: tuple[SeedGroup, ...]
    sweeps: tuple[Sweep, ...]
    skipped: tuple[SkippedFolder, ...]
    notices: tuple[str, ...]
    num_bootstrap: int
    seed: int

    def run(self, label: str) -> ComparedRun:
        """Returns the run of a label."""
        return next(run for run in self.runs if run.label == label)

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dictionary that `from_json` reads back to an equal record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "Comparison":
        """Reads what `to_json` gave.

        Raises:
            DataError: if a field is missing, unknown or of another kind.
        """
        return read_record(cls, body)
