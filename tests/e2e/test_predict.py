"""New pictures with the finished run of the whole road: from the command line and from Python."""

import dataclasses
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.core.errors import ArtifactError, ConfigError, DataError
from velm_train.core.hashing import sha256_file
from velm_train.core.images import read_rgb
from velm_train.core.inspection import GATE_STAGES, MODEL_STAGES, Inspection
from velm_train.core.records import Prediction
from velm_train.datasets.manifests import SplitManifest
from velm_train.evaluation.inspector import Inspector as BatchInspector
from velm_train.inspector import Inspector
from velm_train.reporting.inspections import read_inspections


@pytest.fixture(scope="module")
def pictures(road) -> dict[Path, Prediction]:
    """File -> row, of every picture that the run was tested on."""
    known = {entry.image_id: entry.sha256 for entry in SplitManifest.load(road.folder / "split.json").entries}
    places = {row.image_id: row.image_id.split("/", 1)[1] for row in road.predictions}
    textures = next(  # other runs may have made other pictures of the same names, or more of the same
        folder
        for folder in sorted((road.artifacts / "textures").iterdir())
        if all((folder / place).is_file() for place in places.values())
        and all(sha256_file(folder / place) == known[image_id] for image_id, place in places.items())
    )
    return {textures / places[row.image_id]: row for row in road.predictions}


@pytest.fixture(scope="module")
def inspector(road) -> Inspector:
    return Inspector.load(road.folder, threads=1)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def give(*lines: object) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    return give


@pytest.fixture
def ask_anew(road, run_alone, stdin):
    """Runs task=predict on what stdin gives, and returns the run with its rows."""

    def run(*words: str, files: object = ()):
        stdin(*files)
        done = run_alone("task=predict", f"ckpt={road.folder}", "input=-", "threads=1", *words)
        return done, read_inspections(done.folder / "inspections.jsonl")

    return run


@pytest.fixture
def ask(ask_anew, inspector: Inspector, monkeypatch: pytest.MonkeyPatch):
    """The same without loading the same weights each time."""

    def loaded(run, *, kind: type, abstain_below: float | None) -> Inspector:
        return dataclasses.replace(inspector, abstain_below=run.abstention(abstain_below))

    monkeypatch.setattr("velm_train.cli.predict.build_inspector", loaded)
    return ask_anew


def flagged(pictures: dict[Path, Prediction]) -> Path:
    return next(path for path, row in pictures.items() if row.pred_label)


def stopped(pictures: dict[Path, Prediction]) -> Path:
    return next(path for path, row in pictures.items() if not row.pred_label)


def test_the_runs_own_test_pictures_get_the_runs_own_answers(pictures, ask_anew) -> None:
    done, rows = ask_anew(files=pictures)
    assert [Path(row.path) for row in rows] == list(pictures)
    for row in rows:
        own = pictures[Path(row.path)]
        assert (row.flagged, row.pred_defect_type) == (own.pred_label, own.pred_defect_type), row.path
        assert (row.anomaly_score, row.p_value) == pytest.approx((own.anomaly_score, own.p_value), abs=1e-6)
        likelihoods = {option.answer: option.log_likelihood for option in row.options}
        assert likelihoods == pytest.approx(own.option_log_likelihoods, abs=1e-5)
        assert tuple(region.box_xyxy for region in row.regions) == own.region_boxes_xyxy
        assert row.role_in_run == "test"
        assert set(row.seconds) == {*GATE_STAGES, *(MODEL_STAGES if row.flagged else ())}
        assert sum(option.probability for option in row.options) == pytest.approx(1.0 if row.flagged else 0.0)
    normals = [row for row in rows if not row.flagged]
    assert normals
    assert all(row.verdict == "good" and row.p_value > 0.2 and row.options == () for row in normals)
    summary = json.loads((done.folder / "summary.json").read_text())
    time = summary["expected_time"]
    expected = time["gate_seconds"] + time["pass_share"] * time["model_seconds"]
    assert summary["expected_seconds"] == pytest.approx(expected)
    assert time["pass_share"] == pytest.approx(sum(bool(row.flagged) for row in rows) / len(rows))
    assert "Expected time a picture: t_gate + P(pass) t_model = " in done.shown
    assert {one["category"]: one["num_new"] for one in summary["drift"]} == {
        "metal_brushed": 10,
        "metal_satin": 10,
        "wood_oak": 10,
    }


def test_page_needs_no_other_file_and_shows_every_picture(pictures, ask) -> None:
    done, rows = ask(files=pictures)
    text = (done.folder / "inspections.html").read_text()
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)([^"']*)""", text) == []
    assert text.count("data:image/") == 2 * sum(bool(row.flagged) for row in rows)
    assert all(row.path in text for row in rows)
    few, _ = ask("predict.max_drawn=1", files=pictures)
    assert (few.folder / "inspections.html").read_text().count("data:image/") == 2


def test_rows_of_an_earlier_command_are_not_made_again(road, pictures, ask, tmp_path: Path) -> None:
    copy = tmp_path / "wood_oak" / "copy.png"
    copy.parent.mkdir()
    shutil.copy(next(path for path in pictures if path.parts[-4] == "wood_oak"), copy)
    _, first = ask(files=pictures)
    done, rows = ask(files=[*pictures, copy])
    assert rows[:-1] == first
    assert rows[-1] == dataclasses.replace(next(row for row in first if row.sha256 == rows[-1].sha256), path=str(copy))
    assert f"inspected before, and not inspected again: {len(rows)} of them" in done.shown
    assert "load the run" not in done.shown


def test_interrupted_command_goes_on_behind_its_last_row(pictures, ask, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("predict.abstain_below=0.001", "predict.batch=4")  # no row is known under this threshold
    made: list[int] = []
    inspect_many = BatchInspector.inspect_many

    def until_tired(self, some, *, on_rows) -> None:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(len(some))
        inspect_many(self, some, on_rows=on_rows)

    with monkeypatch.context() as patch:
        patch.setattr(BatchInspector, "inspect_many", until_tired)
        with pytest.raises(KeyboardInterrupt):
            ask(*words, files=pictures)
    done, rows = ask(*words, files=pictures)
    assert "inspected before, and not inspected again: 12 of them" in done.shown
    assert len(rows) == len(pictures)


def test_broken_pictures_have_rows_and_stop_nothing(pictures, ask, tmp_path: Path) -> None:
    folder = tmp_path / "wood_oak"
    folder.mkdir()
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    good = stopped(pictures)
    (folder / "cut.png").write_bytes(good.read_bytes()[:200])
    done, rows = ask(files=[*sorted(folder.iterdir()), folder / "gone.png", good])
    assert [row.verdict for row in rows] == ["unreadable"] * 4 + ["good"]
    assert all(row.path in row.error for row in rows[:4])
    assert "does not exist" in rows[3].error
    assert done.shown.count("unreadable: image ") == 4
    assert "wood_oak/cut.png" in (done.folder / "inspections.html").read_text()


def test_nothing_readable_is_an_error_behind_the_rows(ask, road, tmp_path: Path) -> None:
    (tmp_path / "wood_oak").mkdir()
    (tmp_path / "wood_oak" / "empty.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"^no picture could be read, of 1; the first: image .*empty\.png"):
        ask(files=[tmp_path / "wood_oak" / "empty.png"])
    assert len(list(tmp_path.rglob("inspections.jsonl"))) == 1


def test_category_that_no_folder_names_is_asked_for_with_the_list(pictures, ask, tmp_path: Path) -> None:
    lost = tmp_path / "new.png"
    shutil.copy(stopped(pictures), lost)
    with pytest.raises(
        DataError, match=r"no folder above .*new\.png is named like a category .*one of: metal_brushed, m"
    ):
        ask(files=[lost])
    with pytest.raises(DataError, match=r"^category=oak is not one of this run's; allowed: metal_brushed, metal_sat"):
        ask("category=oak", files=[lost])
    _, (row,) = ask("category=metal_satin", files=[lost])
    assert row.category == "metal_satin"


def test_unsure_answers_are_left_to_a_person(pictures, ask) -> None:
    done, (row,) = ask("predict.abstain_below=1.0", files=[flagged(pictures)])
    assert (row.verdict, row.pred_defect_type) == ("unsure", None)
    assert row.name == row.options[0].answer
    assert "Answers below 1 are called unsure." in done.shown


def test_settings_that_the_run_decides_are_refused(ask) -> None:
    with pytest.raises(ConfigError, match=r"^task=predict takes gate, lora from the run that ckpt names"):
        ask("gate.alpha=0.1", "lora.r=4", files=["x.png"])


def test_damaged_adapter_is_noticed_even_if_all_rows_are_remembered(
    road, pictures, ask, run_alone, stdin, tmp_path: Path
) -> None:
    path = stopped(pictures)
    ask(files=[path])
    copy = tmp_path / "copy"
    shutil.copytree(road.folder, copy, ignore=shutil.ignore_patterns("wandb", "csv"))
    with (copy / "adapter" / "look_twice.safetensors").open("ab") as stream:
        stream.write(b"\x00")
    stdin(path)
    with pytest.raises(ArtifactError, match=r"look_twice\.safetensors is damaged"):
        run_alone("task=predict", f"ckpt={copy}", "input=-")


def test_score_that_is_no_number_is_named_with_its_picture(inspector: Inspector, pictures, monkeypatch) -> None:
    path = stopped(pictures)
    detector = inspector.detectors[pictures[path].category]
    plain = type(detector).detect

    def broken(self, images, *, image_ids):
        return [
            dataclasses.replace(one, anomaly_score=float("nan")) for one in plain(self, images, image_ids=image_ids)
        ]

    monkeypatch.setattr(type(detector), "detect", broken)
    with pytest.raises(DataError, match=rf"^image {path}: "):
        inspector.inspect(path)


def test_python_inspects_files_pictures_and_arrays(inspector: Inspector, pictures) -> None:
    path = flagged(pictures)
    category = pictures[path].category
    found = inspector.inspect(path)
    assert isinstance(found, Inspection)
    assert (found.path, found.category, found.flagged) == (str(path), category, True)
    rgb = read_rgb(path)
    for pixels in (rgb, Image.fromarray(rgb)):
        same = inspector.inspect(pixels, category=category)
        assert same.path == ""
        assert (same.anomaly_score, same.p_value, same.flagged) == (found.anomaly_score, found.p_value, True)
        assert [region.box_xyxy for region in same.regions] == [region.box_xyxy for region in found.regions]
        assert {option.answer for option in same.options} == {option.answer for option in found.options}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.path = "other"


def test_python_says_what_it_needs(inspector: Inspector, pictures, tmp_path: Path) -> None:
    assert inspector.categories == ("metal_brushed", "metal_satin", "wood_oak")
    grey = np.full((30, 40, 3), 128, np.uint8)
    with pytest.raises(DataError, match=r"^pixels have no folder; say category=, one of: metal_brushed, metal_satin"):
        inspector.inspect(grey)
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        inspector.inspect(tmp_path / "gone.png", category="wood_oak")
    with pytest.raises(DataError, match=r"lies in no folder named like a category"):
        inspector.inspect(tmp_path / "gone.png")
    assert inspector.inspect(grey, category="wood_oak").flagged


def test_normal_pictures_never_reach_the_model(inspector: Inspector, pictures, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was asked")

    model = inspector.asked.model
    for name in ("encode_views", "option_log_likelihoods"):
        monkeypatch.setattr(model, name, refuse, raising=True)
    found = inspector.inspect(stopped(pictures))
    assert (found.verdict, found.name, found.options) == ("good", "good", ())
    with pytest.raises(AssertionError, match="the model was asked"):
        inspector.inspect(flagged(pictures))
