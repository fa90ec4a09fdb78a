"""What validates training is whole parts of the training samples, and nothing that is learned from."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from velm_train.cli.compose import load_config
from velm_train.cli.hold_out import held_out_of, split_material
from velm_train.cli.instruct import Material
from velm_train.cli.prepare import Prepared
from velm_train.cli.workshop import open_workshop
from velm_train.core.errors import ConfigError
from velm_train.core.records import ImageRecord, InstructionSample, Message
from velm_train.core.taxonomy import Taxonomy
from velm_train.datasets.protocols import SplitManifest


@dataclass(frozen=True)
class Part:
    """One picture: its part, what it shows, and the hash of its content."""

    group: str
    kind: str
    content: str


PARTS = [Part(group=f"part {i // 2}", kind=("scratch", "hole")[i % 2], content=str(i)) for i in range(16)]
"""Eight parts of two pictures, one of each kind."""


def record(number: int, part: Part) -> ImageRecord:
    return ImageRecord(
        image_id=f"set/nut/{number:02d}.png",
        dataset="set",
        category="nut",
        split="train",
        defect_type=part.kind,
        image_path=Path("nowhere.png"),
        gt_mask_paths=(),
        group_id=part.group,
        sha256=part.content.rjust(64, "0"),
        size_hw=(60, 80),
    )


def sample(image: ImageRecord) -> InstructionSample:
    return InstructionSample(
        sample_id=f"{image.image_id}/0",
        image_id=image.image_id,
        category="nut",
        task="name_type",
        views=(),
        messages=(Message(role="user", text="What is it?"),),
        target=image.defect_type,
        options=(),
        provenance={"answer_defect_type": image.defect_type, "image_defect_type": image.defect_type},
    )


def split(parts: list[Part], *words: str):
    records = tuple(record(number, part) for number, part in enumerate(parts))
    prepared = Prepared(
        records=records,
        roles={},
        manifest=object.__new__(SplitManifest),
        taxonomy=object.__new__(Taxonomy),
        taught=object.__new__(Taxonomy),
        unseen=(),
    )
    material = Material(samples=tuple(map(sample, records)), questions={}, dropped=(), identity="all")
    shop = open_workshop(load_config(list(words)), run_folder=None)
    learned, held_out = split_material(shop, prepared, material)
    return shop, material, learned, held_out


def test_without_a_share_everything_is_learned_from_under_the_same_name() -> None:
    shop, material, learned, held_out = split(PARTS)
    assert learned is material
    assert held_out == ()
    assert held_out_of(shop, held_out, visits=lambda _: pytest.fail("nothing is to be read")) is None


def test_a_quarter_of_the_parts_is_held_out_whole_and_named(capsys) -> None:
    _, material, learned, held_out = split(PARTS, "trainer.validation_share=0.25")
    groups = {f"set/nut/{number:02d}.png": part.group for number, part in enumerate(PARTS)}
    inside = {groups[one.image_id] for one in held_out}
    assert len(inside) == 2
    assert inside.isdisjoint(groups[one.image_id] for one in learned.samples)
    assert sorted([*learned.samples, *held_out], key=lambda one: one.sample_id) == list(material.samples)
    assert learned.identity != material.identity
    assert "4 of 16 training samples, of 2 of 8 parts, are held out" in " ".join(capsys.readouterr().out.split())


def test_equal_pictures_count_as_one_part_whatever_they_are_called() -> None:
    copies = [
        Part(group=part.group, kind=part.kind, content="one" if part.kind == "hole" else part.content) for part in PARTS
    ]
    with pytest.raises(ConfigError, match="holds out none of the 1 training parts"):
        split(copies, "trainer.validation_share=0.25")


def test_another_seed_holds_out_other_parts() -> None:
    chosen = {
        tuple(one.image_id for one in split(PARTS, "trainer.validation_share=0.25", f"seed={seed}")[3])
        for seed in range(6)
    }
    assert len(chosen) > 2
