"""Conflicts between settings are refused by the key to change."""

import copy
import dataclasses
import re

import pytest

from velm_train.cli.compose import load_config
from velm_train.config import Config
from velm_train.config.data import DatasetConfig
from velm_train.config.naming import InstructionsConfig, InstructionTaskConfig, LookTwiceConfig
from velm_train.core.errors import ConfigError


def with_groups(config: Config, **groups: dict[str, object]) -> Config:
    """Remakes the configuration with some values of its groups changed."""
    parts = {field.name: copy.deepcopy(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return Config(**{**parts, **{name: dataclasses.replace(parts[name], **values) for name, values in groups.items()}})


def with_shots(config: Config, *, defects_seen: int, k_shot: int, validation_per_type: int) -> Config:
    synthesis = dataclasses.replace(config.dataset.synthesis, defects_seen=defects_seen)
    return with_groups(
        config,
        dataset={"synthesis": synthesis},
        protocol={"k_shot": k_shot, "validation_per_type": validation_per_type},
    )


@pytest.mark.parametrize(
    ("defects_seen", "k_shot", "validation_per_type"), [(7, 4, 0), (7, 4, 2), (8, 4, 3), (2, 1, 0)]
)
def test_half_of_the_defects_rounded_up_may_be_trained_on(
    config: Config, defects_seen: int, k_shot: int, validation_per_type: int
) -> None:
    with_shots(config, defects_seen=defects_seen, k_shot=k_shot, validation_per_type=validation_per_type)


@pytest.mark.parametrize(
    ("defects_seen", "k_shot", "validation_per_type", "expected"),
    [
        (7, 5, 0, "protocol.k_shot=5 is not possible; allowed: 4 or fewer"),
        (8, 5, 0, "protocol.k_shot=5 is not possible; allowed: 4 or fewer"),
        (7, 4, 3, "protocol.validation_per_type=3 is not possible; allowed: 2 or fewer"),
        (
            2,
            1,
            1,
            "protocol.validation_per_type=1 is not possible; allowed: 0: half of dataset",
        ),
    ],
)
def test_more_shots_than_the_set_has_are_refused(
    config: Config, defects_seen: int, k_shot: int, validation_per_type: int, expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        with_shots(config, defects_seen=defects_seen, k_shot=k_shot, validation_per_type=validation_per_type)


@pytest.mark.parametrize(
    ("train_good", "test_good", "fits"), [(21, 9, True), (22, 9, False), (29, 1, True), (30, 1, False)]
)
def test_every_normal_image_needs_a_piece(config: Config, train_good: int, test_good: int, *, fits: bool) -> None:
    if fits:
        dataclasses.replace(config.dataset.synthesis, train_good=train_good, test_good=test_good)
        return
    with pytest.raises(ConfigError, match=r"synthesis\.train_good \+ dataset\.synthesis\.test_good=31 .* to 30 images"):
        dataclasses.replace(config.dataset.synthesis, train_good=train_good, test_good=test_good)


def tasks(**views: tuple[float, list[str]]) -> dict[str, InstructionTaskConfig]:
    return {name: InstructionTaskConfig(weight=weight, views=shown) for name, (weight, shown) in views.items()}


@pytest.mark.parametrize(
    ("shown", "allowed"),
    [
        (tasks(name_type=(1.0, ["crop"])), True),
        (tasks(name_type=(1.0, ["crop"]), same_or_different=(0.0, ["reference", "crop"])), True),
        (tasks(name_type=(1.0, ["crop"]), same_or_different=(0.1, ["reference", "crop"])), False),
        (tasks(name_type=(0.0, ["reference", "crop"]), locate_then_name=(1.0, ["query"])), False),
    ],
)
def test_reference_view_needs_reference_normals(
    config: Config, shown: dict[str, InstructionTaskConfig], *, allowed: bool
) -> None:
    changes = {"protocol": {"reference_normals": 0}, "instructions": {"tasks": shown}}
    if allowed:
        with_groups(config, **changes)
        return
    with pytest.raises(ConfigError, match=r"protocol\.reference_normals=0 .* a task shows a reference view"):
        with_groups(config, **changes)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (tasks(name_type=(1.0, ["crop"]), describe=(1.0, ["crop"])), "instructions.tasks=describe"),
        (tasks(locate_then_name=(1.0, ["crop"])), "allowed: name_type and others"),
        (tasks(name_type=(0.0, ["crop"])), "one above 0 at least"),
    ],
)
def test_tasks_are_known_and_name_type_is_one_of_them(
    config: Config, shown: dict[str, InstructionTaskConfig], expected: str
) -> None:
    values = {field.name: getattr(config.instructions, field.name) for field in dataclasses.fields(InstructionsConfig)}
    with pytest.raises(ConfigError, match=re.escape(expected)):
        InstructionsConfig(**{**values, "tasks": shown})


@pytest.mark.parametrize(
    ("weight", "views", "expected"),
    [
        (-0.1, ["crop"], "instructions.tasks.*.weight=-0.1"),
        (1.0, [], "instructions.tasks.*.views=[]"),
        (1.0, ["crop", "photo"], "instructions.tasks.*.views=photo is not possible; allowed: reference, query"),
    ],
)
def test_task_with_an_impossible_value_is_refused(weight: float, views: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        InstructionTaskConfig(weight=weight, views=views)


def dataset(**changes: object) -> DatasetConfig:
    values: dict[str, object] = {
        "name": "custom",
        "reader": "mvtec_style",
        "root": "/data",
        "categories": [],
        "unseen_categories": [],
        "taxonomy": None,
        "on_bad_file": "refuse",
        "synthesis": None,
        "huggingface": None,
    }
    return DatasetConfig(**{**values, **changes})


@pytest.mark.parametrize("reader", ["mvtec_style", "generic_folder", "table"])
def test_reader_of_a_folder_needs_a_root(reader: str) -> None:
    assert dataset(reader=reader).root == "/data"
    with pytest.raises(ConfigError, match=r"dataset\.root=None is not possible; allowed: a folder"):
        dataset(reader=reader, root=None)


def test_embedded_reader_takes_no_root() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.root=/data is not possible; allowed: null \(textile\)"):
        dataset(reader="textile")


def test_synthesis_belongs_to_textures_alone(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.synthesis=set is not possible"):
        dataset(synthesis=config.dataset.synthesis)


def test_unseen_categories_are_among_the_chosen_ones() -> None:
    assert dataset(categories=[], unseen_categories=["nut"]).unseen_categories == ["nut"]
    assert dataset(categories=["nut", "bolt"], unseen_categories=["nut"]).unseen_categories == ["nut"]
    with pytest.raises(
        ConfigError, match=r"dataset\.unseen_categories names \['nut'\], which dataset\.categories lacks"
    ):
        dataset(categories=["bolt"], unseen_categories=["nut"])


def test_look_twice_sources_are_the_shipped_ones(config: Config) -> None:
    values = {field.name: getattr(config.look_twice, field.name) for field in dataclasses.fields(LookTwiceConfig)}
    for source in ("map", "learned", "fused", "random", "centre", "oracle", "off"):
        assert LookTwiceConfig(**{**values, "source": source}).source == source


@pytest.mark.parametrize(("task", "allowed"), [("detect", True), ("audit", True), ("run", False), ("train", False)])
def test_zero_shot_trains_nothing(task: str, *, allowed: bool) -> None:
    words = ["protocol=zero_shot", f"task={task}"]
    if allowed:
        assert load_config(words).protocol.name == "zero_shot"
        return
    with pytest.raises(ConfigError, match=rf"task\.name={task} is not possible; allowed: detect, audit or preview"):
        load_config(words)


@pytest.mark.parametrize(
    ("words", "marked"), [([], False), (["debug=fast"], True), (["debug=fast", "name=parts"], True)]
)
def test_a_run_in_its_smallest_form_is_marked_whatever_its_name(words: list[str], *, marked: bool) -> None:
    assert load_config(words).rehearsal is marked
