"""The files released with VELM, written by hand in their format: keys, label file, misspelt keys."""

import json
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.reporting.imports.velm_release import (
    MisspeltKey,
    find_misspelt_keys,
    read_label_keys,
    read_velm_predictions,
    with_repaired_keys,
)

KEYS = {"nut": {"bent key": "bent_key", "cut": "cut"}, "metal_nut": {"scratch mark": "scratch"}, "metal": {"x": "x"}}


@pytest.fixture
def label_file(tmp_path: Path):
    def write(body) -> Path:
        path = tmp_path / "des.json"
        path.write_text(body if isinstance(body, str) else json.dumps(body))
        return path

    return write


@pytest.fixture
def read(tmp_path: Path):
    def run(body, keys=KEYS):
        path = tmp_path / "preds.json"
        path.write_text(body if isinstance(body, str) else json.dumps(body))
        return read_velm_predictions(path, label_keys=keys)

    return run


def test_label_keys_are_display_names_in_lower_case(label_file):
    body = {"nut": {"normal": ["is round"], "bent_key": ["Bent key", "a bend"], "cut": ["cut", "a cut"]}}
    assert read_label_keys(label_file(body)) == {"nut": {"bent key": "bent_key", "cut": "cut"}}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"nut": ["a"]}, "an object of classes is expected"),
        ({"nut": {"cut": "cut"}}, "nut/cut is 'cut'"),
        ({"nut": {"cut": []}}, "nut/cut is []"),
        ({"nut": {"cut": ["X", ""], "bent": ["x", ""]}}, "classes 'cut' and 'bent' are both called 'x'"),
        ([1], "a JSON object is expected"),
        ('{"nut": {', "damaged or cut"),
        ("", "is empty"),
    ],
)
def test_a_label_file_that_is_not_one_is_refused(label_file, body, problem):
    with pytest.raises(DataError) as caught:
        read_label_keys(label_file(body))
    assert problem in str(caught.value)


def test_keys_are_split_at_the_longest_category_and_the_last_number(read):
    raw = read(
        {
            "nut_bent_key_007": "Bent Key",
            "metal_nut_scratch_0011": "good",
            "metal_nut_good_3": "scratch mark.",
            "nut_cut_1": " cut",
        }
    )
    assert [(row.image_id, row.category, row.gt_defect_type) for row in raw.rows] == [
        ("nut/bent_key/007", "nut", "bent_key"),
        ("metal_nut/scratch/011", "metal_nut", "scratch"),
        ("metal_nut/good/003", "metal_nut", "good"),
        ("nut/cut/001", "nut", "cut"),
    ]
    assert [(row.answer, row.flagged) for row in raw.rows] == [
        ("bent_key", True),
        ("good", False),
        ("Unknown class", True),  # a full stop more, and the released evaluation reads nothing
        ("Unknown class", True),
    ]
    assert raw.rows[2].said == "scratch mark."
    assert raw.rows[2].where == "entry 3 ('metal_nut_good_3')"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"bolt_cut_1": "cut"}, "entry 1 ('bolt_cut_1'): the key begins with no category"),
        ({"nut_cut_1": "cut", "nut_cut": "cut"}, "entry 2 ('nut_cut'): the key is not of the form"),
        ({"nut_1": "cut"}, "is not of the form <category>_<class>_<number>"),
        ({"nut_cut_1": None}, "the answer is None; text is expected"),
        ({"nut_cut_1": "cut", "nut_cut_01": "cut"}, "entry 2 ('nut_cut_01'): 'nut/cut/001' is in entry 1"),
        ('{"nut_cut_1": "cut", "nut_cut_1": "good"}', "entry 2 ('nut_cut_1'): 'nut/cut/001' is in entry 1"),
        ({}, "holds no prediction"),
        ("[]", "a JSON object is expected"),
    ],
)
def test_what_cannot_be_used_stops_with_its_entry(read, body, problem):
    with pytest.raises(DataError) as caught:
        read(body)
    assert problem in str(caught.value)


def test_a_misspelt_key_is_paired_with_the_class_that_has_none():
    keys = {"cashew": {"pinhole": "small-hole", "dark mark": "burnt"}, "pcb": {"odd": "melted"}}
    types = {"cashew": ("burnt", "small-holes"), "pcb": ("bent",)}
    misspelt = find_misspelt_keys(keys, types)
    assert misspelt == (MisspeltKey(category="cashew", key="small-hole", defect_type="small-holes"),)
    assert with_repaired_keys(keys, misspelt) == {**keys, "cashew": {"pinhole": "small-holes", "dark mark": "burnt"}}


def test_a_key_whose_class_merely_has_no_image_is_left_alone():
    keys = {"pcb": {"bent pin": "bent", "odd": "bend"}}
    assert find_misspelt_keys(keys, {"pcb": ("bent",)}) == ()
