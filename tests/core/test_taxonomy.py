"""Taxonomies are read strictly, compared with the folders, and derived from names where there are none."""

import json
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.taxonomy import DefectType, Taxonomy, derive_taxonomy, read_taxonomy

CONTENT = {
    "schema_version": 1,
    "dataset": "parts",
    "categories": {
        "bolt": {
            "noun": "steel bolt",
            "normal_description": "The thread is clean.",
            "defect_types": {
                "good": {"display_name": "good", "description": "", "synonyms": []},
                "rust_spot": {
                    "display_name": "rust",
                    "description": "Brown spots.",
                    "synonyms": ["oxide", "corrosion"],
                },
                "bent": {"display_name": "bent", "description": "Not straight.", "synonyms": []},
            },
        },
        "nut": {"noun": "nut", "normal_description": "", "defect_types": {}},
    },
}


def write(folder: Path, content: object) -> Path:
    path = folder / "parts.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def taxonomy(tmp_path: Path) -> Taxonomy:
    return read_taxonomy(write(tmp_path, CONTENT))


def test_file_is_read_field_by_field(taxonomy: Taxonomy) -> None:
    assert taxonomy.dataset == "parts"
    assert list(taxonomy.categories) == ["bolt", "nut"]
    bolt = taxonomy.categories["bolt"]
    assert (bolt.noun, bolt.normal_description) == ("steel bolt", "The thread is clean.")
    assert bolt.defect_types["rust_spot"] == DefectType(
        display_name="rust", description="Brown spots.", synonyms=("oxide", "corrosion")
    )


def test_good_is_no_defect_type(taxonomy: Taxonomy) -> None:
    assert list(taxonomy.categories["bolt"].defect_types) == ["rust_spot", "bent"]


def test_matching_folders_pass(taxonomy: Taxonomy) -> None:
    taxonomy.validate({"bolt": {"rust_spot", "bent"}, "nut": set()})


def test_categories_that_are_not_used_may_be_listed(taxonomy: Taxonomy) -> None:
    taxonomy.validate({"bolt": {"rust_spot", "bent"}})


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"bolts": {"bent"}}, "category 'bolts' is on disk but not in the taxonomy (did you mean 'bolt'?)"),
        ({"screw_driver": set()}, "category 'screw_driver' is on disk but not in the taxonomy"),
        (
            {"bolt": {"rust_spott", "bent"}},
            (
                "bolt: defect type 'rust_spott' is on disk but not in the taxonomy (did you mean 'rust_spot'?); "
                "bolt: defect type 'rust_spot' is in the taxonomy but has no folder"
            ),
        ),
        ({"bolt": {"rust_spot"}}, "bolt: defect type 'bent' is in the taxonomy but has no folder"),
    ],
)
def test_every_difference_is_named_with_the_nearest_spelling(
    taxonomy: Taxonomy, found: dict[str, set[str]], expected: str
) -> None:
    with pytest.raises(DataError) as caught:
        taxonomy.validate(found)
    assert str(caught.value) == f"taxonomy 'parts' does not match the folders: {expected}"


def changed(path: str, value: object) -> dict:
    """Returns CONTENT with the field at a slash-separated path replaced, or removed for None."""
    content = json.loads(json.dumps(CONTENT))
    *parents, last = path.split("/")
    place = content
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (changed("schema_version", None), "field 'schema_version' is missing"),
        (changed("schema_version", 2), "schema version 2, expected 1"),
        (changed("schema_version", "1"), "field 'schema_version' is '1', expected int"),
        (changed("dataset", None), "field 'dataset' is missing"),
        (changed("categories", ["bolt"]), "field 'categories' is ['bolt'], expected dict"),
        (changed("categories/bolt", "steel"), "bolt: field 'defect_types' is missing"),
        (changed("categories/bolt/noun", None), "bolt: field 'noun' is missing"),
        (changed("categories/bolt/noun", 7), "bolt: field 'noun' is 7, expected str"),
        (changed("categories/bolt/defect_types", ["bent"]), "bolt: field 'defect_types' is ['bent'], expected dict"),
        (changed("categories/bolt/defect_types/bent", "crooked"), "bolt/bent: field 'synonyms' is missing"),
        (changed("categories/bolt/defect_types/bent/display_name", None), "bolt/bent: field 'display_name' is missing"),
        (changed("categories/bolt/defect_types/bent/synonyms", "x"), "bolt/bent: field 'synonyms' is 'x', expected"),
        (changed("categories/bolt/defect_types/bent/synonyms", [1]), "bolt/bent: synonyms [1] are not all text"),
        ([CONTENT], "field 'schema_version' is missing"),
    ],
)
def test_field_that_is_missing_or_of_another_kind_is_named(tmp_path: Path, content: object, expected: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_taxonomy(path)
    assert str(caught.value).startswith(f"taxonomy {path}: ")
    assert expected in str(caught.value)


@pytest.mark.parametrize("content", [b"{not json", b"\xff\xfe\x00", b""])
def test_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.json cannot be read"):
        read_taxonomy(tmp_path / "bad.json")


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json cannot be read"):
        read_taxonomy(tmp_path / "none.json")


def test_names_of_folders_become_readable() -> None:
    taxonomy = derive_taxonomy("set", {"Metal_Nut": {"color-patch", "bent"}})
    nut = taxonomy.categories["Metal_Nut"]
    assert nut.noun == "metal nut"
    assert list(nut.defect_types) == ["bent", "color-patch"]
    assert nut.defect_types["color-patch"] == DefectType(display_name="color patch", description="", synonyms=())
    taxonomy.validate({"Metal_Nut": {"color-patch", "bent"}})
