"""What a run leaves behind is complete, and readable by the readers it was made for."""

import csv
import importlib.metadata
import json
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open
from wandb.proto import wandb_internal_pb2

from velm_train.cli.compose import load_config
from velm_train.cli.control_rows import PART_NOTE
from velm_train.cli.gate_notices import REHEARSAL
from velm_train.gating.gate import CalibratedGate
from velm_train.reporting.gate_page import read_gate_card

ROOT = Path(__file__).parents[2]
HEADLINES = {
    "gate/image_auroc",
    "gate/false_alarm_rate",
    "gate/miss_rate",
    "system/normal_recall",
    "system/velm_accuracy",
    "system/end_to_end_balanced_recall/seen",
    "system/end_to_end_balanced_recall/unseen",
}


@pytest.fixture(scope="module")
def split(road) -> dict[str, str]:
    """image_id -> role."""
    entries = json.loads((road.folder / "split.json").read_text())["entries"]
    return {entry["image_id"]: entry["role"] for entry in entries}


def test_config_is_the_whole_resolved_configuration(road) -> None:
    kept = yaml.safe_load((road.folder / "config.yaml").read_text())
    assert kept["alignment"]["max_steps"] == 6
    assert kept["paths"]["artifacts"] == str(road.artifacts)
    assert set(kept) == set(type(road.config).__slots__)


def test_split_gives_every_role_its_images(road, split) -> None:
    assert {"train", "reference", "test"} <= set(split.values())
    unseen = {role for image_id, role in split.items() if image_id.startswith("textures/metal_satin/test/")}
    assert unseen == {"test"}


def test_gates_can_be_read_back(road) -> None:
    rows = json.loads((road.folder / "gates.json").read_text())
    assert sorted(rows) == ["metal_brushed", "metal_satin", "wood_oak"]
    for category, row in rows.items():
        gate = CalibratedGate.from_json(row)
        assert (gate.category, gate.alpha, gate.num_calibration) == (category, 0.2, 5)


def test_every_test_image_has_one_prediction(road, split) -> None:
    tested = sorted(image_id for image_id, role in split.items() if role == "test")
    assert sorted(row.image_id for row in road.predictions) == tested


def test_predictions_say_how_the_system_came_to_its_word(road) -> None:
    stopped = [row for row in road.predictions if not row.pred_label]
    asked = [row for row in road.predictions if row.pred_label]
    assert {row.pred_defect_type for row in stopped} == {"good"}
    assert all(row.option_log_likelihoods == {} and row.region_boxes_xyxy == () for row in stopped)
    for row in asked:
        assert {"no defect", "none of these"} < set(row.option_log_likelihoods)
        assert max(row.option_log_likelihoods.values()) < 0
        assert len(row.region_boxes_xyxy) == 1
        assert {"detect", "encode"} < set(row.seconds)
        assert {"model", "gates", "split", "material"} <= set(row.hashes)
    assert {row.gate_policy for row in road.predictions} == {"detector"}
    assert {row.group for row in road.predictions} == {"seen", "unseen"}


def test_adapter_holds_lora_projector_and_second_look(road) -> None:
    folder = road.folder / "adapter"
    body = json.loads((folder / "adapter_config.json").read_text())
    assert (body["peft_type"], body["r"]) == ("LORA", 16)
    keys = {}
    for name in ("adapter_model", "projector", "look_twice"):
        with safe_open(folder / f"{name}.safetensors", framework="pt") as tensors:
            keys[name] = list(tensors.keys())
    assert all(keys.values())
    assert all(".lora_A." in key or ".lora_B." in key for key in keys["adapter_model"])


def test_results_name_every_row_beside_the_run(road) -> None:
    names = [row.name for row in road.results.scoreboard.rows]
    assert names == [
        "velm_train",
        "second look taken away",
        "same MLLM before tuning",
        "image-blind (grey picture)",
        "without the words' own likelihood",
        "linear probe",
        "nearest prototype",
        "perfect gate + majority type",
        "majority type",
    ]


def test_costly_rows_are_scored_on_a_part_with_the_shares_of_the_whole(road) -> None:
    run, *others = road.results.scoreboard.rows
    whole = run.scores.overall
    for row in others:
        part = row.scores.overall
        if row.name not in ("second look taken away", "same MLLM before tuning"):
            assert (row.trivial, row.subset_note) != (False, PART_NOTE)
            assert part.num_images == whole.num_images
            continue
        assert row.subset_note == PART_NOTE
        assert part.num_flagged == road.config.evaluation.max_control_images
        share = part.num_flagged / whole.num_flagged
        assert part.num_images - part.num_flagged == round((whole.num_images - whole.num_flagged) * share)
        assert abs(part.num_defects - whole.num_defects * share) < 2  # one among the flagged, one among the others
        assert row.versus_first.difference.n == part.num_images


def test_results_say_what_other_words_change(road) -> None:
    flagged = [row for row in road.predictions if row.pred_label and row.gt_defect_type != "good"]
    assert [row.check for row in road.results.language] == ["permuted", "nonsense", "synonym", "no_noun"]
    for row in road.results.language:
        assert row.num_images == row.same_type.n == len(flagged)  # fewer than max_language_images
        right = [one for one in flagged if one.pred_defect_type == one.gt_defect_type]
        assert (row.own_words.value > 0) == bool(right)
        assert (row.same_word is None) == (row.check in ("nonsense", "synonym"))
        gap = row.other_words.value - row.own_words.value
        assert row.difference.value == pytest.approx(gap)
    assert "How much the words matter" in road.shown
    assert 'id="language"' in (road.folder / "report.html").read_text()


def test_answers_that_the_model_writes_are_a_row_of_their_own(run_again) -> None:
    run = run_again("evaluation.baselines=[free_text]", "evaluation.language_checks=[]")
    written = run.results.scoreboard.rows[1]
    assert written.name == "answers written, strictly read"
    assert written.scores.overall.num_flagged == run.config.evaluation.max_control_images
    assert "write" in [stage.stage for stage in written.scores.seconds]
    assert written.scores.overall.calibration.expected_calibration_error.value is None  # no likelihoods
    assert run.results.language == ()


def test_manifest_says_what_was_run_where_and_from_what(road) -> None:
    manifest = road.results.manifest
    for name in ("torch", "transformers", "peft", "pytorch-lightning"):
        assert manifest.packages[name] == importlib.metadata.version(name)
    assert manifest.seeds == {"run": 0, "textures": 0}
    assert {"config", "split", "adapter", "base model", "detector of wood_oak"} <= set(manifest.hashes)
    assert all(len(value) >= 20 for value in manifest.hashes.values())
    stages = [stage.stage for stage in manifest.stages]
    expected = ["read data", "audit", "detect", "calibrate gates", "find regions", "build instructions", "encode views"]
    assert stages[: len(expected)] == expected
    assert {"align", "tune", "ask the tuned model", "ask the control rows", "score"} <= set(stages)


def test_manifest_holds_the_git_state_of_a_checkout(road) -> None:
    finished = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    checkout = road.results.manifest.checkout
    if finished.returncode == 0:
        assert checkout is not None
        assert re.fullmatch(r"[0-9a-f]{40}", checkout.commit)
    else:
        assert checkout is None


def test_results_hold_what_the_report_says_beyond_the_scores(road) -> None:
    page = road.results.page
    assert page is not None
    card = read_gate_card(road.folder / "gate_card.json")
    assert (road.folder / "gate_card.html").is_file()
    assert [gate.row for gate in page.gates] == [category.row(0.2) for category in card.categories]
    assert sum(one.num_defects + one.num_normals for one in page.errors) == len(road.predictions)
    flagged = {row.image_id for row in road.predictions if row.pred_label}
    assert {look.image_id for look in page.second_looks} == flagged & set(page.shown)
    assert page.second_look_note == ""
    text = (road.folder / "report.html").read_text()
    assert text.count('class="card example"') == len(page.shown)
    assert text.count(">second look<") == len(page.second_looks)


def test_report_needs_no_other_file(road) -> None:
    text = (road.folder / "report.html").read_text()
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)([^"']*)""", text)
    assert outside == []
    assert re.findall(r"url\((?!data:)", text) == []
    assert "@import" not in text
    assert text.count("data:image/") >= 4
    for part in ("velm_train", "majority type", "metal_brushed", "Apache-2.0"):
        assert part in text, part


def test_local_log_has_every_step_and_the_headline_figures(road) -> None:
    with (road.folder / "csv" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows if row["loss/total"]] == ["1", "2", "3"]
    assert {name for name in HEADLINES if any(row[name] for row in rows)} == HEADLINES


def wandb_records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """Reads an offline run: a header of 7 bytes, then the record format of LevelDB's log with blocks of 32 KiB."""
    content, position, message = path.read_bytes(), 7, b""
    while position + 7 <= len(content):
        left_in_block = 32768 - position % 32768
        if left_in_block < 7:
            position += left_in_block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        message += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(message)
            message = b""


def test_offline_wandb_run_has_settings_steps_and_headline_figures(road) -> None:
    (path,) = road.folder.glob("wandb/offline-run-*/run-*.wandb")
    logged: dict[str, list[float]] = {}
    settings: set[str] = set()
    for record in wandb_records(path):
        for item in record.history.item:
            logged.setdefault("/".join(item.nested_key) or item.key, []).append(json.loads(item.value_json))
        settings |= {item.key for item in (*record.config.update, *record.run.config.update)}
    assert len(logged["loss/total"]) == 3
    assert set(logged) >= HEADLINES
    assert {"lora", "gate", "seed"} <= settings
    (results,) = [row.scores for row in road.results.scoreboard.rows if row.name == "velm_train"]
    assert logged["gate/image_auroc"] == [results.overall.detection.image_auroc.value]


def test_kept_configuration_runs_again(road) -> None:
    """The settings in the run folder are those that the words gave."""
    kept = yaml.safe_load((road.folder / "config.yaml").read_text())
    words = [
        "debug=fast",
        "threads=1",
        f"paths.artifacts={road.artifacts}",
        f"paths.outputs={kept['paths']['outputs']}",
    ]
    assert load_config(words) == road.config


def test_figures_that_mean_nothing_are_said_to_in_every_place_where_they_are_read(road) -> None:
    assert REHEARSAL in road.shown
    assert road.results.page.notices[0] == REHEARSAL
    assert read_gate_card(road.folder / "gate_card.json").notices[0] == REHEARSAL
    for name in ("report.html", "gate_card.html"):
        assert f"<li>{REHEARSAL}</li>" in (road.folder / name).read_text(), name
