"""The silent progress satisfies the protocol and shows nothing."""

import pytest

from velm_train.core.progress import Progress, SilentProgress


def test_silent_progress_is_a_progress() -> None:
    assert isinstance(SilentProgress(), Progress)
    assert not isinstance(object(), Progress)


def test_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    progress = SilentProgress()
    with progress.stage("work", total=3) as advance:
        for _ in range(5):
            advance(1)
    progress.note("done")
    assert capsys.readouterr() == ("", "")


def test_error_inside_a_stage_passes_through() -> None:
    with pytest.raises(KeyError, match="inner"), SilentProgress().stage("work", total=1):
        raise KeyError("inner")
