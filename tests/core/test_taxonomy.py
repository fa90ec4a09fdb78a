"""Taxonomies are read strictly, compared with the folders, and derived from names where there are none."""

import json
import re
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.taxonomy import DefectType, Taxonomy, derive_taxonomy, read_taxonomy

CONTENT = {
    "schema_version": 2,
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
                    "orientation_matters": False,
                },
                "bent": {
                    "display_name": "bent",
                    "description": "Not straight.",
                    "synonyms": [],
                    "orientation_matters": False,
                },
                "wrong_side": {
                    "display_name": "wrong side",
                    "description": "The head is on the left.",
                    "synonyms": [],
                    "orientation_matters": True,
                    "optional": True,
                },
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
        display_name="rust",
        description="Brown spots.",
        synonyms=("oxide", "corrosion"),
        orientation_matters=False,
        optional=False,
    )
    assert bolt.defect_types["wrong_side"].orientation_matters
    assert bolt.defect_types["wrong_side"].optional


def test_good_is_no_defect_type(taxonomy: Taxonomy) -> None:
    assert list(taxonomy.categories["bolt"].defect_types) == ["rust_spot", "bent", "wrong_side"]


def test_matching_folders_pass(taxonomy: Taxonomy) -> None:
    taxonomy.validate({"bolt": {"rust_spot", "bent"}, "nut": set()})


def test_categories_that_are_not_used_may_be_listed(taxonomy: Taxonomy) -> None:
    taxonomy.validate({"bolt": {"rust_spot", "bent"}})


SPELLING = "spell folders and taxonomy alike, or give the set a taxonomy of its own by dataset.taxonomy"
COPY = "the copy may be incomplete: complete it, or choose whole categories by dataset.categories"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            {"bolts": {"bent"}},
            f"category 'bolts' is on disk but not in the taxonomy (did you mean 'bolt'?) ({SPELLING})",
        ),
        ({"screw_driver": set()}, f"category 'screw_driver' is on disk but not in the taxonomy ({SPELLING})"),
        (
            {"bolt": {"rust_spott", "bent"}},
            (
                "bolt: defect type 'rust_spott' is on disk but not in the taxonomy (did you mean 'rust_spot'?); "
                f"bolt: defect type 'rust_spot' is in the taxonomy but has no image on disk ({SPELLING}; {COPY})"
            ),
        ),
        ({"bolt": {"rust_spot"}}, f"bolt: defect type 'bent' is in the taxonomy but has no image on disk ({COPY})"),
        ({"bolt": set()}, f"bolt: no image of any defect type is on disk, expected bent, rust_spot ({COPY})"),
    ],
)
def test_every_difference_is_named_with_the_nearest_spelling_and_what_to_do(
    taxonomy: Taxonomy, found: dict[str, set[str]], expected: str
) -> None:
    for compare in (taxonomy.validate, taxonomy.fitted):
        with pytest.raises(DataError) as caught:
            compare(found)
        assert str(caught.value) == f"taxonomy 'parts' does not match the folders: {expected}"


def test_optional_types_that_have_no_image_are_left_out(taxonomy: Taxonomy) -> None:
    fitted = taxonomy.fitted({"bolt": {"rust_spot", "bent"}})
    assert list(fitted.categories["bolt"].defect_types) == ["rust_spot", "bent"]
    assert fitted.categories["bolt"].noun == "steel bolt"
    assert fitted.categories["nut"] == taxonomy.categories["nut"]
    assert taxonomy.fitted({"bolt": {"rust_spot", "bent", "wrong_side"}, "nut": set()}) == taxonomy
    assert taxonomy.fitted({"nut": set()}) == taxonomy


def test_one_type_is_returned_as_it_stands(taxonomy: Taxonomy) -> None:
    bolt = taxonomy.categories["bolt"]
    assert bolt.type_of("bent") is bolt.defect_types["bent"]


def test_joined_types_are_composed(taxonomy: Taxonomy) -> None:
    bolt = taxonomy.categories["bolt"]
    assert bolt.type_of("bent+rust_spot") == DefectType(
        display_name="bent and rust",
        description="Not straight. Brown spots.",
        synonyms=(),
        orientation_matters=False,
        optional=False,
    )
    three = bolt.type_of("bent+rust_spot+wrong_side")
    assert three.display_name == "bent, rust and wrong side"
    assert three.orientation_matters


def test_joined_types_without_descriptions_have_none() -> None:
    nut = derive_taxonomy("set", {"nut": {"bent", "cut"}}).categories["nut"]
    assert nut.type_of("bent+cut").description == ""


@pytest.mark.parametrize("name", ["bnet", "bnet+rust_spot", "rust_spot+bnet"])
def test_unknown_type_is_refused_with_the_nearest_spelling(taxonomy: Taxonomy, name: str) -> None:
    expected = "'steel bolt' has no defect type 'bnet' (did you mean 'bent'?); known: bent, rust_spot, wrong_side"
    with pytest.raises(DataError) as caught:
        taxonomy.categories["bolt"].type_of(name)
    assert str(caught.value) == expected


def test_one_type_whose_orientation_matters_makes_it_matter_for_the_category(taxonomy: Taxonomy) -> None:
    assert taxonomy.categories["bolt"].orientation_matters
    assert not taxonomy.categories["nut"].orientation_matters


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
        (changed("schema_version", 1), "schema version 1, expected 2; the form is in data/README.md"),
        (changed("schema_version", True), "field 'schema_version' is True, expected int"),
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
        (
            changed("categories/bolt/defect_types/bent/orientation_matters", None),
            "field 'orientation_matters' is missing",
        ),
        (changed("categories/bolt/defect_types/bent/orientation_matters", 1), "is 1, expected bool"),
        (changed("categories/bolt/defect_types/bent/optional", "no"), "field 'optional' is 'no', expected bool"),
        (changed("source", "x"), "unknown field 'source'; known: schema_version, dataset, categories"),
        (changed("categories/bolt/nouns", "x"), "bolt: unknown field 'nouns' (did you mean 'noun'?)"),
        (
            changed("categories/bolt/defect_types/bent/optionl", True),
            "unknown field 'optionl' (did you mean 'optional'?)",
        ),
        ([CONTENT], "field 'schema_version' is missing"),
    ],
)
def test_field_that_is_missing_or_of_another_kind_is_named(tmp_path: Path, content: object, expected: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_taxonomy(path)
    assert str(caught.value).startswith(f"taxonomy {path}: ")
    assert expected in str(caught.value)


def with_names(display_name: str, *synonyms: str) -> dict:
    """Returns CONTENT with other names for the type "bent"."""
    named = changed("categories/bolt/defect_types/bent/display_name", display_name)
    named["categories"]["bolt"]["defect_types"]["bent"]["synonyms"] = list(synonyms)
    return named


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (with_names("rust"), "'rust', display name of 'bent', reads the same as the display name of 'rust_spot'"),
        (with_names(" Rust."), "' Rust.', display name of 'bent', reads the same as the display name of 'rust_spot'"),
        (with_names("no defect"), "'no defect', display name of 'bent', reads the same as the option 'no defect'"),
        (with_names("None of these"), "reads the same as the option 'none of these'"),
        (with_names("bent", "rust"), "'rust', synonym of 'bent', reads the same as the display name of 'rust_spot'"),
        (with_names("bent", "oxide"), "'oxide', synonym of 'bent', reads the same as the synonym of 'rust_spot'"),
        (with_names("bent", "Bent"), "'Bent', synonym of 'bent', reads the same as the display name of 'bent'"),
        (with_names("bent", "kink", "kink"), "'kink', synonym of 'bent', reads the same as the synonym of 'bent'"),
        (with_names("bent", "no defect."), "synonym of 'bent', reads the same as the option 'no defect'"),
        (with_names("bent", "none of these"), "synonym of 'bent', reads the same as the option 'none of these'"),
        (with_names("corrosion"), "'corrosion', synonym of 'rust_spot', reads the same as the display name of 'bent'"),
        (with_names(" "), "display name of 'bent' is empty"),
        (with_names("bent", "."), "synonym of 'bent' is empty"),
    ],
)
def test_names_that_could_be_taken_for_each_other_are_refused(tmp_path: Path, content: dict, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        read_taxonomy(write(tmp_path, content))
    assert expected in str(caught.value)


def test_names_of_different_categories_may_be_the_same(tmp_path: Path) -> None:
    content = changed("categories/nut/defect_types", CONTENT["categories"]["bolt"]["defect_types"])
    assert set(read_taxonomy(write(tmp_path, content)).categories) == {"bolt", "nut"}


@pytest.mark.parametrize("name", ["bent+rust_spot", ""])
def test_type_that_is_not_one_type_is_refused(tmp_path: Path, name: str) -> None:
    entry = CONTENT["categories"]["bolt"]["defect_types"]["bent"]
    content = changed("categories/nut/defect_types", {name: entry})
    with pytest.raises(DataError, match=f"nut: defect type '{re.escape(name)}' is not one type"):
        read_taxonomy(write(tmp_path, content))


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
    assert nut.defect_types["color-patch"] == DefectType(
        display_name="color patch", description="", synonyms=(), orientation_matters=False, optional=False
    )
    taxonomy.validate({"Metal_Nut": {"color-patch", "bent"}})


def test_joint_types_become_types_of_their_own_and_others_can_be_taken_out() -> None:
    taxonomy = derive_taxonomy("parts", {"nut": {"bent", "cut"}, "tile": {"oil"}})
    joint = taxonomy.with_joint({"nut": {"bent+cut"}})
    assert joint.categories["nut"].defect_types["bent+cut"].display_name == "bent and cut"
    assert set(joint.categories["nut"].defect_types) == {"bent", "cut", "bent+cut"}
    assert set(joint.without({"nut": ("cut",)}).categories["nut"].defect_types) == {"bent", "bent+cut"}
    assert joint.categories["tile"] == joint.without({"nut": ("cut",)}).categories["tile"]
    with pytest.raises(DataError, match="no defect type 'burnt'"):
        taxonomy.with_joint({"nut": {"burnt+cut"}})
