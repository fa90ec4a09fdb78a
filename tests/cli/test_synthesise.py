"""task=synthesise: from a folder of good images alone to a data set that the next command reads."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from velm_train.cli.compose import load_config
from velm_train.cli.prepare import prepare
from velm_train.cli.tasks import run_task
from velm_train.cli.workshop import open_workshop
from velm_train.core.errors import DataError
from velm_train.core.images import write_png
from velm_train.datasets.synthesis.statement import read_statement

WORDS = ["defects.types=[hole,scratch]", "defects.per_type=4", "protocol.k_shot=2", "protocol.reference_normals=1"]


@pytest.fixture
def goods(tmp_path: Path) -> Path:
    """One category, good images only, no test folder."""
    rng = np.random.default_rng(0)
    for n in range(8):
        picture = rng.normal(140, 12, (70, 90, 3)).clip(0, 255).astype(np.uint8)
        write_png(picture, tmp_path / "good parts" / "plate" / "train" / "good" / f"{n}.png")
    return tmp_path / "good parts"


def words(goods: Path, tmp_path: Path) -> list[str]:
    return ["task=synthesise", "dataset=mvtec_style", f"dataset.root={goods}", f"paths.artifacts={tmp_path / 'art'}"]


def next_command(shown: str) -> list[str]:
    (line,) = [line for line in shown.splitlines() if line.startswith("next: ")]
    command = shlex.split(line.removeprefix("next: "))
    assert command[:3] == ["python", "-m", "velm_train"]
    return command[3:]


def test_the_command_it_names_reads_what_it_made(goods: Path, tmp_path: Path, capsys) -> None:
    run_task(load_config([*words(goods, tmp_path), *WORDS]), run_folder=tmp_path / "run")
    page = (tmp_path / "run" / "synthesis.html").read_text()
    assert page.count("<h3>hole<") == page.count("<h3>scratch<") == 1
    config = load_config([*next_command(capsys.readouterr().out), *WORDS, f"paths.artifacts={tmp_path / 'art'}"])
    prepared = prepare(open_workshop(config, run_folder=None))
    roles = [prepared.roles[record.image_id] for record in prepared.records if record.gt_label]
    assert sorted(roles) == ["test"] * 4 + ["train"] * 4


def test_a_second_run_finds_the_set_made(goods: Path, tmp_path: Path, capsys) -> None:
    config = load_config([*words(goods, tmp_path), *WORDS])
    run_task(config, run_folder=tmp_path / "one")
    first = next_command(capsys.readouterr().out)
    run_task(config, run_folder=tmp_path / "two")
    shown = capsys.readouterr().out
    assert next_command(shown) == first
    assert "reused" in shown


def test_a_folder_of_ones_own_may_be_given(goods: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "made by me"
    run_task(load_config([*words(goods, tmp_path), *WORDS, f"defects.out={out}"]), run_folder=tmp_path / "run")
    assert len(read_statement(out).defects) == 2 * 4
    assert next_command(capsys.readouterr().out)[1] == f"dataset.root={out}"


def test_labelled_defects_are_not_drawn_upon(goods: Path, tmp_path: Path, capsys) -> None:
    real = np.full((70, 90, 3), 9, dtype=np.uint8)
    write_png(real, goods / "plate" / "test" / "dent" / "0.png")
    run_task(load_config([*words(goods, tmp_path), *WORDS]), run_folder=tmp_path / "run")
    assert "1 defect images of custom are not used" in capsys.readouterr().out


def test_too_few_good_images_are_refused(goods: Path, tmp_path: Path) -> None:
    for n in range(3, 8):
        (goods / "plate" / "train" / "good" / f"{n}.png").unlink()
    with pytest.raises(DataError, match="'plate' has 3 good parts"):
        run_task(load_config([*words(goods, tmp_path), *WORDS]), run_folder=tmp_path / "run")
