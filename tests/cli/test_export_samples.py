"""Exports are artefacts: made once, found again, and mended after a kill."""

from pathlib import Path

import numpy as np
import pytest

from velm_train.cli.compose import load_config
from velm_train.cli.export_samples import HOW_TO_READ, export
from velm_train.cli.instruct import Material
from velm_train.cli.workshop import Workshop, open_workshop
from velm_train.core.errors import ConfigError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_rgb, write_png
from velm_train.core.records import InstructionSample, Message, View
from velm_train.instructions.formats.exchange import import_samples
from velm_train.instructions.formats.names import FORMAT_NAMES
from velm_train.instructions.store import sample_to_json


@pytest.fixture
def material(tmp_path: Path) -> Material:
    path = tmp_path / "part.png"
    write_png(np.full((30, 40, 3), 90, dtype=np.uint8), path)
    view = View(
        kind="query_contour",
        image_id="parts/nut/part.png",
        image_path=path,
        sha256=sha256_file(path),
        box_xyxy=(0, 0, 40, 30),
        contour=np.array([[10, 10], [20, 10], [20, 20]], dtype=np.int32),
    )
    sample = InstructionSample(
        sample_id="parts/nut/part.png#0/name_type/0",
        image_id="parts/nut/part.png",
        category="nut",
        task="name_type",
        views=(view,),
        messages=(Message(role="user", text="<image>\nWhich one?"),),
        target="dent",
        options=(),
        provenance={"answer_defect_type": "dent"},
    )
    return Material(samples=(sample,), questions={}, dropped=(), identity="0")


@pytest.fixture
def shop_for(tmp_path: Path):
    def make(*formats: str) -> Workshop:
        words = ["task=instruct", f"task.export=[{','.join(formats)}]", f"paths.artifacts={tmp_path / 'artifacts'}"]
        return open_workshop(load_config(words), run_folder=None)

    return make


def exported(tmp_path: Path, format_name: str) -> Path:
    (found,) = (tmp_path / "artifacts" / "exports").glob(f"*/{format_name}")
    return found


def test_every_format_is_written_named_and_read_back(shop_for, material, tmp_path, capsys):
    export(shop_for(*FORMAT_NAMES), material)
    shown = capsys.readouterr().out
    for format_name in FORMAT_NAMES:
        folder = exported(tmp_path, format_name)
        (read,) = import_samples(folder, format_name=format_name)
        assert sample_to_json(read) == sample_to_json(material.samples[0])
        assert f"{format_name}: {folder}\n" in shown
        assert all(f"{line.format(folder=folder)}\n" in shown for line in HOW_TO_READ[format_name])


def test_the_picture_shows_the_contour(shop_for, material, tmp_path):
    export(shop_for("sharegpt"), material)
    (picture,) = (exported(tmp_path, "sharegpt") / "images").iterdir()
    assert (read_rgb(picture)[10, 15] == (255, 0, 0)).all()
    assert (read_rgb(picture)[15, 12] == (90, 90, 90)).all()


def test_an_export_is_made_once(shop_for, material, capsys):
    export(shop_for("sharegpt"), material)
    second = shop_for("sharegpt")
    export(second, material)
    assert "sharegpt export: reused exports/" in capsys.readouterr().out
    assert (second.store.num_built, second.store.num_reused) == (0, 1)


def test_an_export_that_was_killed_before_it_was_sealed_is_made_anew(shop_for, material, tmp_path):
    export(shop_for("sharegpt"), material)
    folder = exported(tmp_path, "sharegpt").parent
    (folder / "artifact.json").unlink()
    (folder / "sharegpt" / "samples.json").write_text("[")
    folder.rename(folder.with_name(f".partial-{folder.name}"))
    export(shop_for("sharegpt"), material)
    assert len(import_samples(exported(tmp_path, "sharegpt"), format_name="sharegpt")) == 1


def test_nothing_is_written_unless_asked_for(shop_for, material, tmp_path, capsys):
    export(shop_for(), material)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=instruct", "task.export=[alpaca]"], "allowed: anomaly_instruct, sharegpt, hf_datasets"),
        (["task=instruct", "task.export=[sharegpt,sharegpt]"], "each once"),
        (["task=run", "task.export=[sharegpt]"], "unless task=instruct"),
    ],
)
def test_an_export_that_cannot_be_is_refused_before_anything_is_loaded(words, message):
    with pytest.raises(ConfigError, match=rf"task\.export=.*{message}"):
        load_config(words)
