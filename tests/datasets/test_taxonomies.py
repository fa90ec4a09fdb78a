"""Facts about the committed taxonomies."""

from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord
from velm_train.core.taxonomy import read_taxonomy
from velm_train.datasets.defects import DEFECT_PAINTERS
from velm_train.datasets.taxonomies import found_types, taxonomy_names, taxonomy_path
from velm_train.datasets.texture_specs import SEEN_TEXTURES, TEXTURES, UNSEEN_TEXTURES


def record(category: str, defect_type: str) -> ImageRecord:
    return ImageRecord(
        image_id=f"d/{category}/{defect_type}",
        dataset="d",
        category=category,
        split="test",
        defect_type=defect_type,
        image_path=Path("x.png"),
        gt_mask_paths=(),
        sha256="0" * 64,
        group_id="g",
        size_hw=(2, 3),
    )


def test_found_types_leave_out_good_and_keep_empty_categories() -> None:
    records = [record("a", "good"), record("a", "cut"), record("a", "dent"), record("b", "good")]
    assert found_types(records) == {"a": {"cut", "dent"}, "b": set()}


def test_textures_taxonomy_fits_the_generator() -> None:
    taxonomy = read_taxonomy(taxonomy_path("textures"))
    taxonomy.validate({category: set(DEFECT_PAINTERS) for category in TEXTURES})
    assert set(taxonomy.categories) == set(TEXTURES)
    lists = [category.defect_types for category in taxonomy.categories.values()]
    assert all(types == lists[0] for types in lists)


def test_textile_taxonomy_fits_its_folders() -> None:
    read_taxonomy(taxonomy_path("textile")).validate({"textile": {"local", "global"}})


@pytest.mark.parametrize("name", taxonomy_names())
def test_texts_are_short_sentences_and_names_are_unambiguous(name: str) -> None:
    taxonomy = read_taxonomy(taxonomy_path(name))
    assert taxonomy.dataset == name
    for category in taxonomy.categories.values():
        types = category.defect_types.values()
        names = [word for kind in types for word in (kind.display_name, *kind.synonyms)]
        assert len(names) == len(set(names))
        assert all(word == word.lower() and word.strip() == word for word in names)
        sentences = [category.normal_description, *(kind.description for kind in types)]
        assert all(text.endswith(".") and text.count(".") == 1 for text in sentences)


def test_seen_and_unseen_textures_share_nothing_and_are_all_but_granite() -> None:
    assert set(SEEN_TEXTURES).isdisjoint(UNSEEN_TEXTURES)
    assert set(SEEN_TEXTURES) | set(UNSEEN_TEXTURES) == set(TEXTURES) - {"granite"}


def test_unknown_taxonomy_is_refused_with_the_nearest_spelling() -> None:
    with pytest.raises(DataError, match="did you mean 'textures'"):
        taxonomy_path("texture")
