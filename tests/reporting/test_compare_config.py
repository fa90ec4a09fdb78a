"""Settings side by side: what differs, what is equal, and which runs are equal but for the seed."""

from velm_train.core.comparison import SettingDifference
from velm_train.reporting.compare_config import differences, equal_but_for_seed, flatten, is_circumstance

SETTINGS = {"seed": 0, "name": "a", "lora": {"r": 8, "alpha": 16.0}, "tags": ["x", 2.0], "empty": {}, "none": None}


def test_nested_settings_become_dotted_keys_and_lists_stay_whole() -> None:
    assert flatten(SETTINGS) == {
        "seed": "0",
        "name": '"a"',
        "lora.r": "8",
        "lora.alpha": "16",
        "tags": '["x", 2]',
        "empty": "{}",
        "none": "null",
    }


def test_numbers_that_are_equal_are_no_difference() -> None:
    first, other = flatten({"a": 1.0, "b": [0.5, 2.0]}), flatten({"a": 1, "b": [0.5, 2]})
    assert differences([first, other]) == ((), 2)


def test_text_and_number_of_the_same_look_differ() -> None:
    (found,), _ = differences([flatten({"a": 1}), flatten({"a": "1"})])
    assert found == SettingDifference(key="a", values=("1", '"1"'))


def test_differing_keys_are_listed_with_one_value_a_run_and_equal_ones_counted() -> None:
    runs = [flatten(SETTINGS), flatten(SETTINGS | {"lora": {"r": 4, "alpha": 16}}), flatten(SETTINGS | {"extra": True})]
    found, num_equal = differences(runs)
    assert found == (
        SettingDifference(key="extra", values=(None, None, "true")),
        SettingDifference(key="lora.r", values=("8", "4", "8")),
    )
    assert [one.known_to_all for one in found] == [False, True]
    assert num_equal == 6


def test_places_and_names_are_circumstances() -> None:
    assert all(map(is_circumstance, ("name", "paths.outputs", "logger.wandb_mode", "task.name", "runs")))
    assert not any(map(is_circumstance, ("seed", "names", "dataset.name", "lora.r", "pathsx")))


def test_runs_that_differ_in_the_seed_and_in_places_alone_are_one_group() -> None:
    base = {"seed": 0, "name": "a", "paths": {"outputs": "x"}, "lora": {"r": 8}}
    runs = [
        base,
        base | {"seed": 1, "name": "b", "paths": {"outputs": "y"}},
        base | {"lora": {"r": 4}},
        base | {"seed": 2},
        base | {"seed": 3, "more": 1},
    ]
    assert equal_but_for_seed([flatten(run) for run in runs]) == ((0, 1, 3), (2,), (4,))
