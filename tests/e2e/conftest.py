"""The whole road in its smallest form, run once for all tests, and the tools to run it again."""

import contextlib
import dataclasses
import importlib
import io
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from velm_train import config as settings
from velm_train.cli.compose import load_config, set_offline_environment
from velm_train.cli.tasks import run_task
from velm_train.config import Config
from velm_train.core.progress import SilentProgress
from velm_train.core.records import Prediction
from velm_train.datasets.textures import TextureCounts, make_textures
from velm_train.reporting.predictions import read_predictions
from velm_train.reporting.results import Results, read_results

ROOT = Path(__file__).parents[2]
CONFIG_MODULES = tuple(
    importlib.import_module(f"{settings.__name__}.{found.name}") for found in pkgutil.iter_modules(settings.__path__)
)
GROUPS = tuple(
    kind
    for module in CONFIG_MODULES
    for kind in vars(module).values()
    if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
)
"""Every dataclass of the configuration."""

OWN_CATEGORIES = ("metal_brushed", "wood_oak")
OWN_TYPES = ("scratch", "hole", "stain")

FAST = ("debug=fast", "threads=1")
LONGEST_SECONDS = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One finished run.

    Attributes:
        folder: what it left.
        shown: what it printed, in one line, because tables and paths are folded.
        read: dotted keys of the settings that were read.
    """

    config: Config
    folder: Path
    artifacts: Path
    shown: str
    read: frozenset[str]

    @property
    def predictions(self) -> list[Prediction]:
        return read_predictions(self.folder / "predictions.jsonl")

    @property
    def results(self) -> Results:
        return read_results(self.folder / "results.json")


@contextlib.contextmanager
def watch_settings() -> Iterator[set[str]]:
    """Collects the dotted key of every setting that the project's code reads while the context is open.

    What dumps whole groups (dataclasses, OmegaConf), checks the settings, or only names them in a hash, reads nothing.
    """
    read: set[str] = set()
    places: dict[int, tuple[object, str]] = {}  # the object is kept, so that its id stays its own

    def watched(self: object, name: str) -> object:
        value = object.__getattribute__(self, name)
        if name.startswith("__"):
            return value
        prefix = "" if isinstance(self, Config) else places[id(self)][1] if id(self) in places else "?."
        inner = value if isinstance(value, dict) else {name: value}
        for key, child in inner.items():
            if type(child) in GROUPS:
                path = f"{prefix}{name}.{key}." if isinstance(value, dict) else f"{prefix}{name}."
                places[id(child)] = (child, path)
        frame = sys._getframe(1)
        module = str(frame.f_globals["__name__"])
        named_only = any(word in frame.f_code.co_qualname for word in ("training_settings", "config_hash"))
        if module.startswith("velm_train.") and not module.startswith("velm_train.config") and not named_only:
            read.add(f"{prefix}{name}")
        return value

    with pytest.MonkeyPatch.context() as patch:
        for group in GROUPS:
            patch.setattr(group, "__getattribute__", watched)
        yield read


def run_in_process(words: Sequence[str], *, artifacts: Path, folder: Path) -> Run:
    """Runs a task in this process as the command line would, without Hydra's logging."""
    folder.mkdir(parents=True)
    config = load_config([*words, f"paths.artifacts={artifacts}", f"paths.outputs={folder.parent}"])
    threads = torch.get_num_threads()
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), watch_settings() as read:
            run_task(config, run_folder=folder)
    finally:
        torch.set_num_threads(threads)
    return Run(
        config=config,
        folder=folder,
        artifacts=artifacts,
        shown=" ".join(shown.getvalue().split()),
        read=frozenset(read),
    )


def finished_artifacts(artifacts: Path) -> set[str]:
    """Returns stage/key of every finished artefact."""
    return {path.parent.relative_to(artifacts).as_posix() for path in artifacts.glob("*/*/artifact.json")}


@pytest.fixture(scope="session", autouse=True)
def _offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("WANDB_SILENT", "true")
        set_offline_environment()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # or commands take over that a background job has none
        yield


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact folder that the runs of all tests share."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="session")
def road(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The first run: everything is made."""
    return run_in_process(FAST, artifacts=artifacts, folder=tmp_path_factory.mktemp("first") / "run")


@pytest.fixture
def run_again(road: Run, artifacts: Path, tmp_path: Path) -> Callable[..., Run]:
    """Returns a function that runs with further settings on the artefacts of the first run."""

    def run(*words: str) -> Run:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        return run_in_process([*FAST, *words], artifacts=artifacts, folder=folder)

    return run


@pytest.fixture
def run_on(tmp_path: Path) -> Callable[..., Run]:
    """Returns a function that runs with further settings on the artefacts of a folder."""

    def run(artifacts: Path, *words: str) -> Run:
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        return run_in_process([*FAST, *words], artifacts=artifacts, folder=folder)

    return run


@pytest.fixture
def run_alone(artifacts: Path, tmp_path: Path) -> Callable[..., Run]:
    """Returns a function that runs a task with these words and no others, on the artefacts of the first run."""

    def run(*words: str) -> Run:
        return run_in_process(words, artifacts=artifacts, folder=tmp_path / f"alone{len(list(tmp_path.iterdir()))}")

    return run


@pytest.fixture(scope="session")
def mvtec_style(assets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories with three types of defects, the last without masks, and no table of groups."""
    root = tmp_path_factory.mktemp("own")
    make_textures(
        root,
        photos=assets.ensure("material_photos") / "images",
        seen=OWN_CATEGORIES,
        unseen=(),
        size_hw=(80, 104),
        counts=TextureCounts(train_good=6, test_good=2, defects_seen=2, defects_unseen=0),
        seed=3,
        progress=SilentProgress(),
    )
    (root / "groups.csv").unlink()
    for category in OWN_CATEGORIES:
        kept = sorted(path.name for path in (root / category / "ground_truth").iterdir())[: len(OWN_TYPES)]
        for folder in (*(root / category / "test").iterdir(), *(root / category / "ground_truth").iterdir()):
            if folder.name not in {"good", *kept}:
                shutil.rmtree(folder)
        for old, new in zip(kept, OWN_TYPES, strict=True):
            (root / category / "test" / old).rename(root / category / "test" / new)
            (root / category / "ground_truth" / old).rename(root / category / "ground_truth" / new)
        shutil.rmtree(root / category / "ground_truth" / "stain")
    return root


@pytest.fixture
def run_fresh(tmp_path: Path) -> Run:
    """The first run once more, on an empty artefact folder."""
    return run_in_process(FAST, artifacts=tmp_path / "fresh", folder=tmp_path / "fresh_run")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A command that has ended.

    Attributes:
        status: exit status; negative for the signal that killed it.
        lines: what it printed on stderr, without empty lines.
    """

    status: int
    shown: str
    lines: tuple[str, ...]


class Command:
    """`python -m velm_train` as a process of its own, in a session of its own, as in a terminal."""

    def __init__(self, words: Sequence[str], *, scratch: Path) -> None:
        self._streams = [(scratch / f"{name}.txt").open("w+") for name in ("stdout", "stderr")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "velm_train", *words],
            cwd=ROOT,
            stdout=self._streams[0],
            stderr=self._streams[1],
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def interrupt_when(self, condition: Callable[[], bool]) -> Ended:
        """Presses Ctrl-C as soon as the condition holds.

        Once more if nothing happens for long: Python drops an interrupt that falls into a weak reference's callback.
        """
        self.signal_when(signal.SIGINT, condition=condition)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=20)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.end()

    def signal_when(self, number: int, *, condition: Callable[[], bool]) -> None:
        """Sends a signal to the whole session, as a terminal does, as soon as the condition holds."""
        started = time.monotonic()
        while not condition():
            assert self.process.poll() is None, f"ended too early: {self.end()}"
            assert time.monotonic() - started < LONGEST_SECONDS
            time.sleep(0.002)
        os.killpg(self.process.pid, number)

    def end(self) -> Ended:
        """Waits for the end."""
        status = self.process.wait(timeout=LONGEST_SECONDS)
        texts = []
        for stream in self._streams:
            stream.seek(0)
            texts.append(stream.read())
            stream.close()
        lines = tuple(line for line in texts[1].splitlines() if line.strip())
        return Ended(status=status, shown=" ".join(texts[0].split()), lines=lines)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts commands; what still runs at the end of the test is stopped."""
    started: list[Command] = []

    def start(*words: str) -> Command:
        scratch = tmp_path / f"command{len(started)}"
        scratch.mkdir()
        started.append(Command(words, scratch=scratch))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGKILL)
            one.process.wait()


@pytest.fixture
def watch() -> Callable[[], contextlib.AbstractContextManager[set[str]]]:
    return watch_settings
