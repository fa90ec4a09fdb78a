"""Files that are cut, damaged or not downloaded are refused by what is wrong with them."""

import pytest

from velm_train.core.errors import DataError
from velm_train.instructions.formats.json_files import (
    is_lfs_pointer,
    objects_of,
    others_of,
    read_json,
    read_records,
    text_of,
    texts_of,
    write_records,
)

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1}, {"a": ', "damaged or cut at record 2 "),
        ('[{"a": 1}, {"a": 2}', "damaged or cut at record 3 "),
        ('[{"a": "x]}, {"}, {"b" 1}]', "damaged or cut at record 2 "),
        (' {"one": {"a": 1},\n "two": {"a"', r"damaged or cut at record 2 \('two'\)"),
        ("", "damaged or cut at its beginning"),
        ("<html>", "damaged or cut at its beginning"),
        (POINTER, "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
        ('{"one": 1, "two": 2, "one": 3}', "the key 'one' is given twice"),
    ],
)
def test_a_bad_file_is_refused_by_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_json(path)


def test_absent_and_binary_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json cannot be read: No such file"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "data.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_json(tmp_path / "data.json")


def test_records_come_back_one_a_line(tmp_path):
    rows = [{"name": "\u00e4\u2028", "number": 1}, {}]
    write_records(rows, tmp_path / "data.json")
    assert read_records(tmp_path / "data.json") == rows
    assert len((tmp_path / "data.json").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "holds one object; a list"), ("3", "holds one number"), ("[null]", "record 1 is null")],
)
def test_what_is_no_list_of_objects_is_refused(tmp_path, content, message):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_records(tmp_path / "data.json")


def test_pointers_are_told_from_files(tmp_path):
    (tmp_path / "pointer.png").write_text(POINTER)
    (tmp_path / "short.png").write_bytes(b"v")
    assert is_lfs_pointer(tmp_path / "pointer.png")
    assert not is_lfs_pointer(tmp_path / "short.png")


def test_fields_of_the_wrong_kind_are_refused_where_they_are():
    row = {"name": 3, "empty": "", "list": ["a", 1], "rows": [1]}
    for read, key in ((text_of, "name"), (text_of, "empty"), (texts_of, "list"), (objects_of, "rows")):
        with pytest.raises(DataError, match=f"row 7: '{key}' is"):
            read(row, key, where="row 7")
    with pytest.raises(DataError, match="row 7: 'absent' is missing; it has 'name', 'empty', 'list', 'rows'"):
        text_of(row, "absent", where="row 7")
    assert others_of(row, ("name", "list")) == {"empty": "", "rows": [1]}
