"""Which files the words of input= mean."""

import io
import logging
from pathlib import Path

import pytest

from velm_train.cli.gather_pictures import gather_pictures
from velm_train.core.errors import DataError

NOTHING = io.StringIO("")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b/2.png", "b/10.PNG", "a/1.jpg", "a/deep/0.tiff", "a/notes.txt", "a/.hidden.png", ".cache/9.png"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "tree"


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_folder_gives_all_pictures_below_it_sorted_and_counts_the_rest(tree: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        found = gather_pictures([str(tree)], stdin=NOTHING)
    assert names(found, tree) == ["a/1.jpg", "a/deep/0.tiff", "b/10.PNG", "b/2.png"]
    assert "left out, because they do not end like a picture: 1" in caplog.text


def test_named_file_is_taken_whatever_its_name_ends_in(tree: Path) -> None:
    assert gather_pictures([str(tree / "a" / "notes.txt")], stdin=NOTHING) == [tree / "a" / "notes.txt"]


def test_globs_take_pictures_and_folders_and_count_the_rest(tree: Path, caplog) -> None:
    assert names(gather_pictures([f"{tree}/a/*"], stdin=NOTHING), tree) == ["a/1.jpg", "a/deep/0.tiff"]
    assert names(gather_pictures([f"{tree}/**/*.png"], stdin=NOTHING), tree) == ["b/2.png"]
    assert names(gather_pictures([f"{tree}/?/1*"], stdin=NOTHING), tree) == ["a/1.jpg", "b/10.PNG"]
    assert caplog.text.count(f"{tree}/a/*: left out, because they do not end like a picture: 1") == 1


def test_file_with_a_glob_sign_in_its_name_is_that_file(tree: Path) -> None:
    odd = tree / "part[1].png"
    odd.write_bytes(b"")
    assert gather_pictures([str(odd)], stdin=NOTHING) == [odd]


def test_list_keeps_its_order_and_names_each_file_once(tree: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        found = gather_pictures([str(tree / "b"), str(tree / "a" / "1.jpg"), f"{tree}/b/2.*"], stdin=NOTHING)
    assert names(found, tree) == ["b/10.PNG", "b/2.png", "a/1.jpg"]
    assert "inspected once although named more than once: 1" in caplog.text


def test_stdin_gives_one_path_a_line_even_of_files_that_are_not_there(tree: Path) -> None:
    stdin = io.StringIO(f"{tree}/b/2.png\n\n{tree}/with blank .png\r\n   \n{tree}/gone.png")
    found = gather_pictures(["-"], stdin=stdin)
    assert names(found, tree) == ["b/2.png", "with blank .png", "gone.png"]


def test_home_is_expanded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    assert gather_pictures(["~/b/2.png"], stdin=NOTHING) == [tree / "b" / "2.png"]
    assert names(gather_pictures(["~/b/2*"], stdin=NOTHING), tree) == ["b/2.png"]
    assert names(gather_pictures(["-"], stdin=io.StringIO("~/b/2.png\n")), tree) == ["b/2.png"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("gone", r"^input=gone is not there; allowed: a picture, a folder, a glob in quotes, or - for stdin$"),
        ("gone/*.png", r"^input=gone/\*\.png matches nothing$"),
    ],
)
def test_word_that_means_nothing_is_refused(word: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        gather_pictures([word], stdin=NOTHING)


def test_no_picture_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"holds no picture; looked for \.bmp, \.jpeg, \.jpg, \.png, \.tif, \.tiff"):
        gather_pictures([str(tmp_path)], stdin=NOTHING)
    with pytest.raises(DataError, match=r"^input=- holds no picture"):
        gather_pictures(["-"], stdin=io.StringIO("\n"))
