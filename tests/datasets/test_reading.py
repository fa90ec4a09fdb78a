"""Facts about listing folders and reading small tables."""

import os
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.datasets.reading import (
    choose_categories,
    is_image_name,
    list_folders,
    list_images,
    nearest,
    printable,
    read_csv,
    read_groups,
    require_root,
)


def test_images_are_listed_by_name_without_other_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.Tiff", ".hidden.png", "notes.txt", "d.png.bak"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert list_images(tmp_path) == [tmp_path / "a.JPG", tmp_path / "b.png", tmp_path / "c.Tiff"]
    assert list_folders(tmp_path) == [tmp_path / "folder.png"]


def test_an_absent_folder_holds_nothing(tmp_path: Path) -> None:
    assert list_images(tmp_path / "no") == list_folders(tmp_path / "no") == []


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real/sub").mkdir(parents=True)
    (tmp_path / "real/a.png").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/a.png").symlink_to(tmp_path / "real/a.png")
    (tmp_path / "here/sub").symlink_to(tmp_path / "real/sub")
    assert list_images(tmp_path / "here") == [tmp_path / "here/a.png"]
    assert list_folders(tmp_path / "here") == [tmp_path / "here/sub"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [("x", "leads in a circle"), ("gone", "leads nowhere"), (".", "a folder that holds it"), ("..", "that holds it")],
)
def test_a_link_that_leads_to_no_end_is_refused(tmp_path: Path, target: str, expected: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x").symlink_to(target)
    with pytest.raises(DataError, match=rf"symbolic link .*folder/x .*{expected}"):
        list_folders(tmp_path / "folder")
    with pytest.raises(DataError, match=rf"symbolic link .*folder/x .*{expected}"):
        list_images(tmp_path / "folder")


def test_a_link_upwards_is_found_through_a_linked_root_as_well(tmp_path: Path) -> None:
    (tmp_path / "real/sub").mkdir(parents=True)
    (tmp_path / "real/sub/up").symlink_to(tmp_path / "real")
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    with pytest.raises(DataError, match="leads to a folder that holds it"):
        list_folders(tmp_path / "alias/sub")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.png", True), ("a.JPG", True), ("a.jpeg", True), ("a.gif", False), ("png", False), (".png", False)],
)
def test_image_names_end_like_pictures(name: str, expected: bool) -> None:
    assert is_image_name(name) == expected


def test_the_nearest_name_is_proposed_or_none() -> None:
    assert nearest("botle", ["bottle", "cable"]) == " (did you mean 'bottle'?)"
    assert nearest("xyz", ["bottle", "cable"]) == ""


def test_categories_are_chosen_in_alphabetical_order(tmp_path: Path) -> None:
    assert choose_categories(["b", "a", "c"], [], root=tmp_path) == ["a", "b", "c"]
    assert choose_categories(["b", "a", "c"], ["c", "a", "c"], root=tmp_path) == ["a", "c"]
    with pytest.raises(DataError, match=r"category 'd' is not in .*; found: a, b, c"):
        choose_categories(["b", "a", "c"], ["d"], root=tmp_path)


def test_a_root_must_be_a_folder_with_folders(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root, expected in (
        (tmp_path / "no", "does not exist"),
        (tmp_path / "file", "is a file"),
        (tmp_path, "holds no"),
    ):
        with pytest.raises(DataError, match=expected):
            require_root(root)


def test_a_name_that_is_not_utf8_is_printable() -> None:
    text = printable(Path(os.fsdecode(b"a/\xff\xc3\xa9.png")))
    assert text == "a/\\xff\u00e9.png"
    text.encode()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_table_is_read_with_its_places(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", b'\xef\xbb\xbfimage,label,extra\r\n a.png ,"x, y",1\r\n"b\nc",\r\n')
    assert list(read_csv(path, columns=("image", "label"))) == [
        (f"{path} row 2", {"image": "a.png", "label": "x, y"}),
        (f"{path} row 4", {"image": "b\nc", "label": ""}),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"image\na\n", "columns are image, expected image and label"),
        (b"", "columns are , expected image and label"),
        (b"image,label\na,b,c\n", "row 2: more fields than columns"),
        (b'image,label\na,"b\n', "is not CSV"),
        (b"image,label\n\xff,b\n", "is not UTF-8 text"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        list(read_csv(write(tmp_path / "t.csv", content), columns=("image", "label")))


def test_groups_are_read_if_there_are_any(tmp_path: Path) -> None:
    assert read_groups(tmp_path) is None
    write(tmp_path / "groups.csv", b"image,group\na/b.png, part 1\n")
    assert read_groups(tmp_path) == {"a/b.png": "part 1"}
