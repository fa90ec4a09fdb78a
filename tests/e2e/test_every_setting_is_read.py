"""No dead knob: every setting of the shipped configuration is read by a run that it concerns."""

import dataclasses
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from velm_train.cli.build_detector import make_detector
from velm_train.cli.compose import load_config
from velm_train.cli.launch.look_after import look_after
from velm_train.cli.launch.sweep_file import SWEEP_VERSION, SweepFile, write_sweep
from velm_train.cli.main import main
from velm_train.cli.ranks import rank_of_process
from velm_train.cli.tasks import run_task
from velm_train.config.detectors import DETECTORS
from velm_train.detectors.protocol import Detector


def leaves(group: Mapping[str, object], *, prefix: str = "") -> Iterator[str]:
    for name, value in group.items():
        if isinstance(value, dict):
            yield from leaves(value, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.fixture
def read_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch) -> set[str]:
    """What the entry point reads before a run: the output folder, here one that cannot be."""
    occupied = tmp_path / "occupied"
    occupied.write_text("a file")
    monkeypatch.setattr(sys, "argv", ["velm_train", f"paths.outputs={occupied / 'runs'}"])
    with watch() as read, pytest.raises(SystemExit):
        main()
    return read


@pytest.fixture
def read_by_preview(run_again) -> frozenset[str]:
    return run_again("task=preview", "task.num_preview=1").read


@pytest.fixture
def read_by_export(run_again) -> frozenset[str]:
    return run_again("task=instruct", "task.export=[sharegpt]").read


@pytest.fixture
def read_by_synthesis(run_again, mvtec_style: Path) -> frozenset[str]:
    words = ("dataset=mvtec_style", f"dataset.root={mvtec_style}", "defects.per_type=2", "defects.types=[hole]")
    return run_again("task=synthesise", *words).read


@pytest.fixture
def read_by_compare(run_again, road, tmp_path: Path) -> frozenset[str]:
    copy = shutil.copytree(road.folder, tmp_path / "copy" / "run")
    return run_again("task=compare", f"runs=[{road.folder},{copy}]").read


@pytest.fixture
def read_by_model_export(run_again, road, tmp_path: Path) -> frozenset[str]:
    folder = f"export.folder={tmp_path / 'export'}"
    return run_again("task=export", f"ckpt={road.folder}", folder, "export.num_images=1").read


@pytest.fixture
def read_by_scoring(watch, tmp_path: Path) -> set[str]:
    """What scoring reads: a table of named types, and answers in words."""
    table, truth, answers = (tmp_path / name for name in ("answers.csv", "truth.json", "answers.json"))
    table.write_text("image_id,category,defect_type,answer\na,nut,cut,cut\n")
    truth.write_text('[{"image": "candle/0.JPG", "questions": ["What?"], "answers": ["a spot"]}]')
    answers.write_text('[{"image": "candle/0.JPG", "answers": ["a spot"]}]')
    benchmark = ("score.format=visa_dr_reasoning", f"score.truth={truth}")
    read: set[str] = set()
    for number, words in enumerate([[f"predictions={table}"], [f"predictions={answers}", *benchmark]]):
        with watch() as seen:
            run_task(load_config(["task=score", *words]), run_folder=tmp_path / f"scored{number}")
        read |= seen
    return read


@pytest.fixture
def read_by_predict(run_alone, road) -> set[str]:
    picture = next((road.artifacts / "textures").glob("*/wood_oak/test/good/*.png"))
    words = (
        "task=predict",
        f"ckpt={road.folder}",
        f"input={picture}",
        "category=wood_oak",
        "predict.abstain_below=0.9",
    )
    own = ("ckpt", "input", "category", "predict.")  # it looks at all others to refuse them
    return {key for key in run_alone(*words).read if key.startswith(own)}


@pytest.fixture
def read_by_status(watch, tmp_path: Path) -> set[str]:
    nothing = SweepFile(version=SWEEP_VERSION, launcher="process", settings="{}", program=(), working_dir="", jobs=())
    write_sweep(tmp_path / "sweep", nothing)
    config = load_config(["task=status", f"sweep={tmp_path / 'sweep'}"])
    with watch() as read:
        look_after(config)
    return {key for key in read if key == "sweep"}


@pytest.fixture
def read_of_several(watch) -> set[str]:
    """What the entry point reads to know how many processes to start."""
    config = load_config(["trainer=ddp_sim"])
    with watch() as read:
        assert rank_of_process(config, {}) is None
    return read


@pytest.fixture
def read_without_a_run(read_by_scoring, read_by_status, read_of_several) -> set[str]:
    return read_by_scoring | read_by_status | read_of_several


@pytest.fixture
def read_with_own_images(run_again, mvtec_style: Path) -> frozenset[str]:
    return run_again("task=detect", "dataset=mvtec_style", f"dataset.root={mvtec_style}").read


def test_every_setting_is_read(
    road,
    read_by_preview,
    read_by_export,
    read_by_synthesis,
    read_by_compare,
    read_without_a_run,
    read_by_model_export,
    read_by_predict,
    read_with_own_images,
    read_at_the_start,
) -> None:
    every = set(leaves(dataclasses.asdict(load_config([]))))
    read = road.read | read_by_preview | read_by_export | read_by_synthesis
    read |= read_by_predict
    read |= read_by_compare | read_without_a_run | read_by_model_export | read_with_own_images | read_at_the_start
    whole = ("defects.recipes.", *(f"detector.{name}" for name in DETECTORS if name != "patchcore"))
    unread = sorted(key for key in every - read if not key.startswith(whole))
    assert "defects.recipes" in read
    assert unread == [], "\n".join(unread)


@pytest.mark.parametrize("name", ["subspace_ad", "padim", "anomaly_dino", "musc"])
def test_every_setting_of_every_native_detector_is_read(name: str, assets, watch) -> None:
    with watch() as read:
        detector = make_detector(load_config([f"detector={name}"]), assets=assets)()
    assert isinstance(detector, Detector)
    block = getattr(load_config([f"detector={name}"]).detector, name)
    assert {f"detector.{name}.{field.name}" for field in dataclasses.fields(block)} <= read


def test_watching_tells_read_from_unread(watch) -> None:
    config = load_config([])
    with watch() as read:
        dataclasses.asdict(config)
        assert config.lora.r == 16
    assert read == set()
    with watch() as read:
        exec("value = config.instructions.tasks['name_type'].weight", {"__name__": "velm_train.x", "config": config})
    assert read == {"instructions", "instructions.tasks", "instructions.tasks.name_type.weight"}
