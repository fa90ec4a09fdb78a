"""Facts about the committed taxonomies."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.core.records import ImageRecord
from velm_train.core.taxonomy import read_taxonomy
from velm_train.datasets.defects import DEFECT_PAINTERS
from velm_train.datasets.taxonomies import found_types, taxonomy_names, taxonomy_path
from velm_train.datasets.texture_specs import SEEN_TEXTURES, TEXTURES, UNSEEN_TEXTURES
from velm_train.datasets.visa_labels import canonical_label

MVTEC_AD: Mapping[str, str] = {
    "bottle": "broken_large broken_small contamination",
    "cable": "bent_wire cable_swap combined cut_inner_insulation cut_outer_insulation missing_cable missing_wire "
    "poke_insulation",
    "capsule": "crack faulty_imprint poke scratch squeeze",
    "carpet": "color cut hole metal_contamination thread",
    "grid": "bent broken glue metal_contamination thread",
    "hazelnut": "crack cut hole print",
    "leather": "color cut fold glue poke",
    "metal_nut": "bent color flip scratch",
    "pill": "color combined contamination crack faulty_imprint pill_type scratch",
    "screw": "manipulated_front scratch_head scratch_neck thread_side thread_top",
    "tile": "crack glue_strip gray_stroke oil rough",
    "toothbrush": "defective",
    "transistor": "bent_lead cut_lead damaged_case misplaced",
    "wood": "color combined hole liquid scratch",
    "zipper": "broken_teeth combined fabric_border fabric_interior rough split_teeth squeezed_teeth",
}
"""Folder names of MVTec AD, separated by blanks."""

MVTEC_AC_MERGED: Mapping[str, str] = {
    "cable": "bent_wire cable_swap cut_inner_insulation cut_outer_insulation missing_cable missing_wire "
    "poke_insulation",
    "capsule": "crack faulty_imprint scratch squeeze",
    "carpet": "color cut metal_contamination thread",
    "pill": "color contamination crack faulty_imprint pill_type scratch",
    "screw": "manipulated_front scratch_head scratch_neck scratch_thread",
    "wood": "color hole liquid scratch",
    "zipper": "broken_teeth fabric_border fabric_interior split_teeth squeezed_teeth",
}
"""What MVTec-AC changes: merged types, no combined ones; the toothbrush is gone as well."""

VISA_AC: Mapping[str, str] = {
    "candle": "chunk-of-wax-missing damaged-corner-of-packaging different-colour-spot foreign-particals-on-candle "
    "wax-melded-out-of-the-candle",
    "capsules": "bubble bubble-discolor bubble-discolor-scratch bubble-discolor-scratch-leak",
    "cashew": "burnt corner-or-edge-breakage same-colour-spot small-holes small-scratches",
    "chewinggum": "chunk-of-gum-missing chunk-of-gum-missing_small-cracks corner-missing similar-colour-spot",
    "fryum": "different-colour-spot fryum-stuck-together middle-breakage",
    "macaroni1": "chip-around-edge-and-corner different-colour-spot middle-breakage_small-scratches "
    "similar-colour-spot small-cracks",
    "macaroni2": "color-spot-similar-to-the-object different-color-spot small-chip-around-edge small-scratches",
    "pcb1": "bent melt missing scratch",
    "pcb2": "bent melt missing scratch",
    "pcb3": "bent melt missing scratch",
    "pcb4": "extra missing",
    "pipe_fryum": "burnt corner-and-edge-breakage different-colour-spot similar-colour-spot small-scratches "
    "stuck-together",
}
"""Folder names of VisA-AC, as the data spells them."""

VISA: Mapping[str, str] = {
    "candle": "Chunk Of Wax Missing,Damaged Corner of Packaging,weird candle wick,Different Colour Spot,"
    "Extra Wax in Candle,Foreign Particals on Candle,Wax Melded out of the candle,Other",
    "capsules": "Bubble,Discolor,Scratch,Leak,Misshape",
    "cashew": "Burnt,Corner or Edge Breakage,Different Colour Spot,Middle Breakage,Small Holes,Small Scratches,"
    "Stuck Together,Same Colour Spot,Other",
    "chewinggum": "Chunk of gum missing,Corner Missing,Scratches,Similar Colour Spot,Small Cracks,Other",
    "fryum": "Burnt,Corner or Edge Breakage,Different Colour Spot,Fryum Stuck Together,Middle Breakage,"
    "Similar Colour Spot,Small Scratches,Other",
    "macaroni1": "Chip Around Edge And Corner,Different Colour Spot,Middle Breakage,Similar Colour Spot,Small Cracks,"
    "Small Scratches,Other",
    "macaroni2": "Breakage down the middle,Color spot similar to the Object,Different Color spot,"
    "Small chip around edge,Small Cracks,Small Scratches,Other",
    "pcb1": "Bent,Melt,Scratch,Missing",
    "pcb2": "Bent,Melt,Scratch,Missing",
    "pcb3": "Bent,Melt,Scratch,Missing",
    "pcb4": "Burnt,Scratch,Missing,Damage,Extra,Wrong Place,Dirt",
    "pipe_fryum": "Burnt,Corner And Edge Breakage,Different Colour Spot,Middle Breakage,Similar Colour Spot,"
    "Small Scratches,Stuck Together,Small Cracks,Other",
}
"""Class names of VisA in the spelling of amazon-science/spot-diff, `utils/id2class.py`, separated by commas."""

MPDD: Mapping[str, str] = {
    "bracket_black": "hole scratches",
    "bracket_brown": "bend_and_parts_mismatch parts_mismatch",
    "bracket_white": "defective_painting scratches",
    "connector": "parts_mismatch",
    "metal_plate": "major_rust scratches total_rust",
    "tubes": "anomalous",
}
"""Folder names of MPDD."""

PUBLIC: Mapping[str, tuple[Mapping[str, set[str]], int, int]] = {
    "mvtec_ad": ({name: set(types.split()) for name, types in MVTEC_AD.items()}, 15, 73),
    "mvtec_ac": (
        {
            name: set((MVTEC_AC_MERGED[name] if name in MVTEC_AC_MERGED else types).split())
            for name, types in MVTEC_AD.items()
            if name != "toothbrush"
        },
        14,
        64,
    ),
    "visa_ac": ({name: set(types.split()) for name, types in VISA_AC.items()}, 12, 50),
    "visa": ({name: {canonical_label(raw) for raw in labels.split(",")} for name, labels in VISA.items()}, 12, 78),
    "mpdd": ({name: set(types.split()) for name, types in MPDD.items()}, 6, 11),
}
"""Data set -> types by category, and the published numbers of categories and types."""

ORIENTED: Mapping[str, Mapping[str, set[str]]] = {
    "mvtec_ad": {
        "cable": {"cable_swap", "combined"},
        "capsule": {"faulty_imprint"},
        "metal_nut": {"flip"},
        "pill": {"combined", "faulty_imprint"},
        "transistor": {"misplaced"},
    },
    "mvtec_ac": {
        "cable": {"cable_swap"},
        "capsule": {"faulty_imprint"},
        "metal_nut": {"flip"},
        "pill": {"faulty_imprint"},
        "transistor": {"misplaced"},
    },
    "visa": {"pcb4": {"wrong-place"}},
    "visa_ac": {},
    "mpdd": {"bracket_brown": {"bend_and_parts_mismatch", "parts_mismatch"}, "connector": {"parts_mismatch"}},
    "textures": {},
    "textile": {},
}
"""Types that a mirrored picture may change: turned parts, swapped places, print."""


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


@pytest.mark.parametrize("name", PUBLIC)
def test_public_sets_have_their_published_categories_and_types(name: str) -> None:
    found, num_categories, num_types = PUBLIC[name]
    taxonomy = read_taxonomy(taxonomy_path(name))
    types = {category: set(body.defect_types) for category, body in taxonomy.categories.items()}
    assert types == found
    assert (len(types), sum(len(listed) for listed in types.values())) == (num_categories, num_types)
    taxonomy.validate({category: set(listed) for category, listed in found.items()})


def test_only_the_rest_class_of_visa_may_have_no_image() -> None:
    optional = {
        (name, kind)
        for name in taxonomy_names()
        for body in read_taxonomy(taxonomy_path(name)).categories.values()
        for kind, entry in body.defect_types.items()
        if entry.optional
    }
    assert optional == {("visa", "other")}


@pytest.mark.parametrize("name", taxonomy_names())
def test_orientation_matters_for_turned_parts_swapped_places_and_print(name: str) -> None:
    oriented = {
        category: {kind for kind, entry in body.defect_types.items() if entry.orientation_matters}
        for category, body in read_taxonomy(taxonomy_path(name)).categories.items()
    }
    assert {category: kinds for category, kinds in oriented.items() if kinds} == ORIENTED[name]


@pytest.mark.parametrize("name", taxonomy_names())
def test_texts_are_short_sentences_and_names_are_short(name: str) -> None:
    taxonomy = read_taxonomy(taxonomy_path(name))
    assert taxonomy.dataset == name
    for category in taxonomy.categories.values():
        assert category.noun == category.noun.lower().strip() != ""
        types = category.defect_types.values()
        names = [word for kind in types for word in (kind.display_name, *kind.synonyms)]
        assert all(re.fullmatch(r"[a-z]+( [a-z]+){0,4}", word) for word in names), names
        assert all(2 <= len(kind.synonyms) <= 4 for kind in types)
        sentences = [category.normal_description, *(kind.description for kind in types)]
        assert all(re.fullmatch(r"[A-Z][^.!?;]*[a-z]\.", text) for text in sentences), sentences
        assert all(len(text.split()) <= 32 for text in sentences)
        descriptions = [kind.description for kind in types]
        assert len(set(descriptions)) == len(descriptions)


def test_seen_and_unseen_textures_share_nothing_and_are_all_but_granite() -> None:
    assert set(SEEN_TEXTURES).isdisjoint(UNSEEN_TEXTURES)
    assert set(SEEN_TEXTURES) | set(UNSEEN_TEXTURES) == set(TEXTURES) - {"granite"}


def test_unknown_taxonomy_is_refused_with_the_nearest_spelling() -> None:
    with pytest.raises(DataError, match="did you mean 'textures'"):
        taxonomy_path("texture")


def test_example_in_the_readme_can_be_read(tmp_path: Path) -> None:
    readme = taxonomy_path("textile").parents[1] / "README.md"
    block = re.search(r"```json\n(.*?)```", readme.read_text(), re.DOTALL)
    assert block is not None
    path = tmp_path / "parts.json"
    path.write_text(block[1])
    assert read_taxonomy(path).categories["bracket"].type_of("dent").display_name == "dent"
