"""What the first process of a run decides goes in; the same word on all of them comes out, through files.

Training meets in a process group of its own. Beside it there is little to agree on, such as whether an artefact is
made together, and files in the run folder serve for it: they need no port, and a process that waits takes no time.
"""

import time
from collections.abc import Callable
from pathlib import Path

from velm_train.core.artifacts import ArtifactStore, StageKey, write_atomic
from velm_train.core.ranks import ONLY_RANK, Rank

_FIRST_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.5

_REUSE, _DONE = "reuse", "done"


class Meeting:
    """Lets the first process speak and the others listen; every process has to call it in the same order.

    Nothing ends a wait but the word that is waited for: whoever started the processes ends them all when one of them
    dies.

    Attributes:
        rank: this process.
    """

    def __init__(self, folder: Path | None, rank: Rank) -> None:
        """Remembers where the words are left.

        Args:
            folder: that all processes see, and that no earlier start of the run has used; None for one process alone.
            rank: this process.
        """
        assert folder is not None or rank.world_size == 1, "several processes need a folder to meet in"
        self.rank = rank
        self._folder = folder
        self._num_words = 0

    def agree(self, topic: str, decide: Callable[[], str]) -> str:
        """Returns what the first process decides, on every process.

        Args:
            topic: a file name's part, which tells words apart for whoever looks at the folder.
            decide: called on the first process alone.
        """
        if self.rank.is_first:
            word = decide()
            self._tell(topic, word)
            return word
        return self._hear(topic)

    def build_together(
        self, store: ArtifactStore, stage_key: StageKey, build: Callable[[Path], None], *, title: str
    ) -> Path:
        """Returns an artefact's folder, which all processes build at the same time if it is not there.

        Args:
            store: of the artefact.
            stage_key: what determines it.
            build: is given the same folder on every process; only the first may write to it.
            title: as for `ArtifactStore.get_or_build`.
        """
        topic = stage_key.stage
        if not self.rank.is_first:
            word = self._hear(topic)
            if word != _REUSE:
                build(store.folder(stage_key).parent / word)
            self._hear(topic)
            return store.folder(stage_key)
        told: list[str] = []

        def build_with_others(partial: Path) -> None:
            told.append(partial.name)
            self._tell(topic, partial.name)
            build(partial)

        folder = store.get_or_build(stage_key, build_with_others, title=title)
        if not told:
            self._tell(topic, _REUSE)
        self._tell(topic, _DONE)
        return folder

    def _tell(self, topic: str, word: str) -> None:
        if self.rank.world_size > 1:
            write_atomic(self._next(topic), word)

    def _hear(self, topic: str) -> str:
        path, pause = self._next(topic), _FIRST_POLL_SECONDS
        while not path.exists():
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)
        return path.read_text()

    def _next(self, topic: str) -> Path:
        assert self._folder is not None
        self._num_words += 1
        return self._folder / f"{self._num_words:04d}-{topic}"


ALONE = Meeting(None, ONLY_RANK)
"""For a run of one process, which has nobody to agree with."""
