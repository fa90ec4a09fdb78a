"""Figures, tables, pictures and files of a run go in; scrubbed, they come out in W&B, online or in the run folder."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from pytorch_lightning.loggers import Logger
from wandb import plot

from velm_train.core.artifacts import write_atomic
from velm_train.core.scrubbing import Scrubber
from velm_train.training.wandb_worker import Run, WandbMode, WandbWorker

RUN_ID_NAME = "wandb_run_id.json"
STEP = "trainer/global_step"
"""The name that Lightning's own logger gives to the optimiser step."""

MAX_TAG_CHARACTERS = 64
CONFUSION_PANEL = "wandb/confusion_matrix/v1"

Cell = str | float | int | bool | np.ndarray | None
"""A picture is an array (H, W, 3) of uint8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WandbRunFacts:
    """How a run is called in W&B.

    Attributes:
        project: W&B project.
        name: of the run.
        group: of the runs that it belongs to, such as its sweep; None for none.
        tags: W&B tags; cut to 64 characters each.
        job_type: what the run does.
        config: settings and circumstances as plain containers.
        final_step: step of what is logged when training is over; above all steps of training.
    """

    project: str
    name: str
    group: str | None
    tags: tuple[str, ...]
    job_type: str
    config: Mapping[str, Any]
    final_step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedFiles:
    """Files that other runs are to find again.

    Attributes:
        name: of the W&B artifact.
        kind: its type, such as "adapter".
        files: name in the artifact -> file.
        facts: what else to know, such as the hash of what it was made of.
        alias: a name of this very version.
        used: True for what the run started from, False for what it made.
    """

    name: str
    kind: str
    files: Mapping[str, Path]
    facts: Mapping[str, str]
    alias: str
    used: bool


class WandbTracker(Logger):
    """A Lightning logger that never waits for W&B and never fails with it."""

    def __init__(
        self, facts: WandbRunFacts, *, mode: WandbMode, folder: Path, scrubber: Scrubber, timeout_s: float
    ) -> None:
        """Opens the run, whose id is kept in the folder: a resumed or requeued run goes on as the same run.

        Args:
            facts: how the run is called.
            mode: "offline" writes below `folder` and needs no account; "online" also uploads.
            folder: of the run.
            scrubber: applied to all that is logged.
            timeout_s: most seconds for opening the run, and for finishing it.
        """
        super().__init__()
        self._facts = facts
        self._folder = folder
        self._scrubber = scrubber
        self._timeout_s = timeout_s
        self._run_id = _run_id(folder)
        self._wanted = self._mode = mode
        self._worker = WandbWorker(self._open, mode=mode, timeout_s=timeout_s)

    @property
    def name(self) -> str:
        """The project."""
        return self._facts.project

    @property
    def version(self) -> str:
        """W&B's id of the run."""
        return self._run_id

    def log_hyperparams(self, params: object) -> None:
        """Does nothing: the settings are logged when the run is opened."""
        del params

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs figures after an optimiser step, or of the end of the run."""
        at = self._facts.final_step if step is None else step
        values = {self._scrubber.text(name): value for name, value in metrics.items()}
        self._worker.submit(lambda run: run.log({**values, STEP: at}, step=at))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Logs a table; a column holds one kind of value, or None, and may hold pictures."""
        titles = [self._scrubber.text(column) for column in columns]
        cells = [[self._scrubber.value(cell) for cell in row] for row in rows]

        def log(run: Run) -> None:
            shown = [[wandb.Image(cell) if isinstance(cell, np.ndarray) else cell for cell in row] for row in cells]
            self._log_last(run, name, wandb.Table(columns=titles, data=shown, allow_mixed_types=True))

        self._worker.submit(log)

    def log_confusion(self, name: str, counts: Sequence[tuple[str, str, int]]) -> None:
        """Logs how often each true type was answered by each name.

        Args:
            name: of the panel.
            counts: (true type, answer, images).
        """
        rows = self._scrubber.value([list(row) for row in counts])
        fields = {"Actual": "Actual", "Predicted": "Predicted", "nPredictions": "nPredictions"}

        def log(run: Run) -> None:
            table = wandb.Table(columns=list(fields), data=rows)
            self._log_last(run, name, plot.plot_table(CONFUSION_PANEL, table, fields, {"title": name}))

        self._worker.submit(log)

    def log_config(self, values: Mapping[str, Any]) -> None:
        """Adds to the settings and circumstances of the run."""
        scrubbed = self._scrubber.value(dict(values))
        self._worker.submit(lambda run: run.config.update(scrubbed, allow_val_change=True))

    def log_page(self, name: str, page: Path) -> None:
        """Logs an HTML page."""
        text = self._scrubber.text(page.read_text())
        self._worker.submit(lambda run: self._log_last(run, name, wandb.Html(text, inject=False)))

    def log_files(self, tracked: TrackedFiles) -> tuple[str, ...]:
        """Logs files with their lineage; returns those left out because they name something private."""
        kept = {name: path for name, path in tracked.files.items() if not self._is_private(path)}
        facts = self._scrubber.value(dict(tracked.facts))

        def log(run: Run) -> None:
            artifact = wandb.Artifact(self._scrubber.text(tracked.name), type=tracked.kind, metadata=facts)
            for name, path in kept.items():
                artifact.add_file(str(path), name=name, policy="immutable", skip_cache=True)
            if self._tells_no_place(artifact):
                # What `use_artifact` does with a new artifact; by itself it refuses to without a network.
                run._log_artifact(
                    artifact, aliases=[tracked.alias], is_user_created=True, use_after_commit=tracked.used
                )

        if kept:
            self._worker.submit(log)
        return tuple(sorted(set(tracked.files) - set(kept)))

    def close(self, *, failed: bool, hurried: bool) -> str | None:
        """Finishes the run, within seconds if hurried; returns what went wrong with W&B, or None."""
        self._worker.close(failed=failed, hurried=hurried)
        return self._worker.problem

    def _log_last(self, run: Run, name: str, value: object) -> None:
        run.log({self._scrubber.text(name): value, STEP: self._facts.final_step}, step=self._facts.final_step)

    def _tells_no_place(self, artifact: wandb.Artifact) -> bool:
        """Makes the places of an artifact's files relative, which W&B is sent along; False where that is impossible.

        Offline they begin at the run folder, where `wandb sync` has to be called and which may be moved; online at the
        working directory, where the library looks for them, and which has to be above the run folder.
        """
        artifact.finalize()  # adds the pictures of tables
        start = self._folder.resolve() if self._mode == "offline" else Path.cwd().resolve()
        entries = artifact.manifest.entries.values()
        if not all(Path(entry.local_path).resolve().is_relative_to(start) for entry in entries):
            return False
        for entry in entries:
            entry.local_path = str(Path(entry.local_path).resolve().relative_to(start))
        return True

    def _is_private(self, path: Path) -> bool:
        content = path.read_bytes()
        return b"\0" not in content and self._scrubber.finds_own(content.decode(errors="replace"))

    def _open(self, mode: WandbMode) -> Run:
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise ConnectionError("no API key: set WANDB_API_KEY or run `wandb login`; logged offline instead")
        self._mode = mode
        if mode != self._wanted:
            wandb.teardown()  # else the run that could not be opened online holds its id
        facts, scrub = self._facts, self._scrubber
        # Copies of tables and pictures for `wandb sync`, which the library would put into the home folder.
        os.environ["WANDB_DATA_DIR"] = str(self._folder.resolve() / "wandb")
        run = wandb.init(
            project=scrub.text(facts.project),
            name=scrub.text(facts.name),
            group=None if facts.group is None else scrub.text(facts.group),
            job_type=facts.job_type,
            dir=self._folder,
            id=self._run_id,
            resume="allow",  # offline too: it is what joins the parts of a run when they are synced
            tags=[scrub.text(tag)[:MAX_TAG_CHARACTERS] for tag in facts.tags],
            config=scrub.value(dict(facts.config)),
            mode=mode,
            settings=self._settings(),
        )
        keep_artifact = run.log_artifact

        def keep_table(artifact: wandb.Artifact) -> wandb.Artifact:
            return keep_artifact(artifact) if self._tells_no_place(artifact) else artifact

        run.log_artifact = keep_table  # what the library calls with the pictures of every table
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        return run

    def _settings(self) -> wandb.Settings:
        return wandb.Settings(
            silent=True,
            console="off",
            reinit="create_new",
            host="",
            program="velm_train",
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_viewer=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            init_timeout=self._timeout_s,
            finish_timeout=self._timeout_s,
            finish_timeout_raises=True,
            x_service_wait=self._timeout_s,
        )


def _run_id(folder: Path) -> str:
    path = folder / RUN_ID_NAME
    if path.is_file():
        return str(json.loads(path.read_text())["run_id"])
    run_id = os.urandom(4).hex()  # an identifier, not part of the experiment: it must differ between equal runs
    write_atomic(path, json.dumps({"run_id": run_id}))
    return run_id
