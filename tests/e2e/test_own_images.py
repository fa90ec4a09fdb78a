"""A user's own folders and tables go the same road as the embedded sets."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from velm_train.core.errors import GateError
from velm_train.core.images import read_rgb, write_png

CATEGORIES = ("metal_brushed", "wood_oak")
TYPES = ("scratch", "hole", "stain")
SHORT = ("alignment.max_steps=1", "trainer.max_steps=1", "logger=none")


@pytest.fixture(scope="session")
def generic_folder(mvtec_style: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as `<category>/<type>` with masks beside them."""
    root = tmp_path_factory.mktemp("generic")
    for category in CATEGORIES:
        shutil.copytree(mvtec_style / category / "train" / "good", root / category / "good")
        for path in sorted((mvtec_style / category / "test" / "good").iterdir()):
            shutil.copy(path, root / category / "good" / f"test_{path.name}")
        for name in TYPES:
            shutil.copytree(mvtec_style / category / "test" / name, root / category / name)
        for mask in sorted((mvtec_style / category / "ground_truth").rglob("*.png")):
            target = root / category / "masks" / mask.parent.name / mask.name.replace("_mask", "")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(mask, target)
    return root


@pytest.fixture(scope="session")
def table(generic_folder: Path) -> Path:
    """The same pictures as rows of a CSV file."""
    path = generic_folder / "parts.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "category", "defect_type", "mask"])
        for image in sorted(generic_folder.glob("*/*/*.png")):
            relative = image.relative_to(generic_folder)
            if relative.parts[1] == "masks":
                continue
            mask = generic_folder / relative.parts[0] / "masks" / relative.parts[1] / relative.parts[2]
            given = mask.relative_to(generic_folder).as_posix() if mask.is_file() else ""
            writer.writerow([relative.as_posix(), relative.parts[0], relative.parts[1], given])
    return path


def roles(folder: Path) -> dict[str, int]:
    entries = json.loads((folder / "split.json").read_text())["entries"]
    return {role: sum(entry["role"] == role for entry in entries) for role in ("train", "reference", "test")}


def test_mvtec_style_folder_goes_the_whole_road(mvtec_style: Path, run_again) -> None:
    run = run_again(
        "dataset=mvtec_style",
        f"dataset.root={mvtec_style}",
        "dataset.unseen_categories=[wood_oak]",
        "evaluation.baselines=[prototype]",
        "name=own",
        *SHORT,
    )
    assert "dataset.root" in run.read
    assert roles(run.folder) == {"train": 2 * 5 + 3, "reference": 2, "test": 2 * 2 + 3 + 6}
    assert {row.gt_defect_type for row in run.predictions} == {"good", *TYPES}
    assert {row.category: row.group for row in run.predictions} == {"metal_brushed": "seen", "wood_oak": "unseen"}
    asked = [row for row in run.predictions if row.pred_label]
    assert asked
    assert all(set(row.option_log_likelihoods) == {*TYPES, "no defect", "none of these"} for row in asked)
    assert (run.folder / "report.html").is_file()


def test_oracle_works_where_some_defects_have_no_mask(mvtec_style: Path, run_again) -> None:
    run = run_again(
        "dataset=mvtec_style",
        f"dataset.root={mvtec_style}",
        "task=instruct",
        "gate.policy=oracle",
        "regions.max_regions=2",
    )
    (path,) = [
        path for path in run.artifacts.glob("instructions/*/instructions.jsonl") if '"oracle"' in path.read_text()
    ]
    text = path.read_text()
    assert '"region_source": "oracle"' in text
    assert '"region_source": "detector"' in text or '"region_source": "whole_image"' in text


@pytest.mark.parametrize("reader", ["generic_folder", "table"])
def test_other_layouts_reach_the_instructions(reader: str, request: pytest.FixtureRequest, run_again) -> None:
    run = run_again(f"dataset={reader}", f"dataset.root={request.getfixturevalue(reader)}", "task=instruct")
    assert roles(run.folder)["train"] >= 2 * 3 + 2 * len(TYPES)
    assert "training samples" in run.shown


def test_table_can_be_cut_to_one_category(table: Path, run_again) -> None:
    run = run_again("dataset=table", f"dataset.root={table}", "task=detect", "dataset.categories=[wood_oak]")
    assert sorted(json.loads((run.folder / "gates.json").read_text())) == ["wood_oak"]


def test_defects_that_look_good_leave_nothing_to_train_on(mvtec_style: Path, tmp_path: Path, run_again) -> None:
    root = tmp_path / "blind"
    shutil.copytree(mvtec_style / "wood_oak", root / "wood_oak", ignore=shutil.ignore_patterns("ground_truth"))
    for name in TYPES:
        for path in sorted((root / "wood_oak" / "test" / name).iterdir()):
            good = read_rgb(root / "wood_oak" / "train" / "good" / "002.png").copy()
            good[0, 0] = len(name), int(path.stem), 0  # another file, the same look
            write_png(good, path)
    words = ("task=instruct", "gate.training_alpha=0.2", "audit.near_duplicates=false")  # all defects are one picture
    with pytest.raises(GateError, match=r"^no training sample is left after gating: .*0 of 3 labelled"):
        run_again("dataset=mvtec_style", f"dataset.root={root}", *words)
