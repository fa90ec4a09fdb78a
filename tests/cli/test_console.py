"""What a person sees beside a bar, and nothing where no bar is drawn."""

import io

from rich.console import Console

from velm_train.cli.console import ConsoleProgress
from velm_train.core.progress import Progress


def shown(*, terminal: bool) -> str:
    stream = io.StringIO()
    progress = ConsoleProgress(Console(file=stream, force_terminal=terminal, width=120, color_system=None))
    assert isinstance(progress, Progress)
    progress.status("before any bar")
    with progress.stage("tune", total=2) as advance:
        with progress.stage("inner", total=1):
            progress.status("of the inner one")
        advance(1)
        progress.status("12 samples/s [not markup]")
        advance(1)
    progress.status("after the bar")
    return stream.getvalue()


def test_the_status_stands_behind_the_open_bar_and_goes_with_it() -> None:
    text = shown(terminal=True)
    assert "12 samples/s [not markup]" in text
    assert "before any bar" not in text
    assert "after the bar" not in text
    assert "tune: 2 in " in text


def test_a_stage_that_is_closed_early_says_how_far_it_came() -> None:
    stream = io.StringIO()
    progress = ConsoleProgress(Console(file=stream, width=120, color_system=None))
    with progress.stage("tune", total=40) as advance:
        advance(9)
        advance(2)
    assert stream.getvalue().startswith("tune: 11 of 40 in ")


def test_a_file_holds_the_stage_alone() -> None:
    text = shown(terminal=False)
    assert "samples/s" not in text
    assert text.count("\n") == 2
