"""Hashes are the published ones of known bytes, and equal for equal values only."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from velm_train.core.hashing import canonical_json, sha256_file, sha256_json

SHA256_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
SHA256_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
SHA256_MILLION_A = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
"""FIPS 180-2, appendix B; the last is of one million times the letter a."""


@dataclass(frozen=True)
class Inner:
    folder: Path


@dataclass(frozen=True)
class Outer:
    inner: Inner
    names: tuple[str, ...]


@pytest.mark.parametrize(
    ("content", "expected"), [(b"", SHA256_EMPTY), (b"abc", SHA256_ABC), (b"a" * 1_000_000, SHA256_MILLION_A)]
)
def test_file_hash_is_the_published_one(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == expected


def test_file_longer_than_a_chunk_is_read_to_its_end(tmp_path: Path) -> None:
    for name, last in (("one", b"x"), ("other", b"y")):
        (tmp_path / name).write_bytes(bytes(2**20 + 7) + last)
    assert sha256_file(tmp_path / "one") != sha256_file(tmp_path / "other")


def test_json_hash_is_that_of_the_canonical_text() -> None:
    value = {"b": "x", "a": [1, 2.5, None]}
    assert canonical_json(value) == '{"a":[1,2.5,null],"b":"x"}'
    assert sha256_json(value) == "6739d783db2ab3fd0e308ed566ca042752f3cab5f9516e0e6d9e411041c24c13"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ((1, 2), [1, 2]),
        ({"y", "x"}, ["x", "y"]),
        (frozenset({"y", "x"}), ["x", "y"]),
        (Path("a/b"), "a/b"),
        (Outer(inner=Inner(folder=Path("a/b")), names=("x",)), {"inner": {"folder": "a/b"}, "names": ["x"]}),
    ],
)
def test_equal_values_have_one_hash(one: object, other: object) -> None:
    assert sha256_json(one) == sha256_json(other)


@pytest.mark.parametrize(
    ("one", "other"), [([1, 2], [2, 1]), (1, "1"), (1, 1.5), (None, "null"), ({"a": {}}, {"a": []}), ("ä", "a")]
)
def test_different_values_have_different_hashes(one: object, other: object) -> None:
    assert sha256_json(one) != sha256_json(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, -float("inf")]])
def test_number_that_is_not_finite_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sha256_json(value)


@pytest.mark.parametrize("value", [object(), {"a": b"x"}, np.float32(1.0), np.zeros(2), Outer, PurePosixPath("a")])
def test_value_without_a_canonical_form_is_refused_by_its_type(value: object) -> None:
    with pytest.raises(TypeError, match="has no canonical JSON form"):
        canonical_json(value)
