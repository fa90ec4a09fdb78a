"""Processes of a run agree, and build an artefact together or not at all."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from velm_train.core.artifacts import ArtifactStore, StageKey
from velm_train.core.meeting import ALONE, Meeting
from velm_train.core.progress import SilentProgress
from velm_train.core.ranks import ONLY_RANK, Rank

KEY = StageKey(stage="toy", version=1, inputs={}, settings={})


def together(folder: Path, work: Callable[[Meeting], object], *, world_size: int = 3) -> list[object]:
    """Does the work in threads that meet as processes do; the first one comes last."""
    results: dict[int, object] = {}

    def act(number: int) -> None:
        results[number] = work(Meeting(folder, Rank(number=number, world_size=world_size)))

    threads = [threading.Thread(target=act, args=(number,)) for number in reversed(range(world_size))]
    for thread in threads:
        thread.start()
        thread.join(timeout=0.05)
    for thread in threads:
        thread.join(timeout=20)
    return [results[number] for number in range(world_size)]


def test_all_say_what_the_first_decides(tmp_path) -> None:
    def work(meeting: Meeting) -> list[str]:
        return [meeting.agree("a", lambda: f"from {meeting.rank.number}"), meeting.agree("a", lambda: "second")]

    assert together(tmp_path / "new", work) == [["from 0", "second"]] * 3


def test_one_process_agrees_with_itself_without_a_file() -> None:
    assert ALONE.agree("a", lambda: "yes") == "yes"


def test_several_need_a_folder() -> None:
    with pytest.raises(AssertionError):
        Meeting(None, Rank(number=0, world_size=2))


def test_what_is_not_there_is_built_by_all_and_sealed_by_the_first(tmp_path) -> None:
    met = threading.Barrier(3, timeout=10)

    def work(meeting: Meeting) -> Path:
        store = ArtifactStore(tmp_path / "store", progress=SilentProgress())

        def build(folder: Path) -> None:
            met.wait()  # nobody could pass if one were still waiting for its turn
            if meeting.rank.is_first:
                (folder / "rows.txt").write_text("1")

        folder = meeting.build_together(store, KEY, build, title="toy")
        store.verify(folder)
        return folder

    folders = together(tmp_path / "meeting", work)
    assert folders == [tmp_path / "store" / "toy" / KEY.key] * 3


def test_what_is_there_is_built_by_nobody(tmp_path) -> None:
    store = ArtifactStore(tmp_path / "store", progress=SilentProgress())
    made = ALONE.build_together(store, KEY, lambda folder: (folder / "a").touch(), title="toy")
    found = together(tmp_path / "meeting", lambda meeting: meeting.build_together(store, KEY, pytest.fail, title="toy"))
    assert found == [made] * 3
    assert ONLY_RANK.is_first
