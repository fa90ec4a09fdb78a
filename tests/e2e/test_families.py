"""The whole road with a small model of every family: taught, asked, scored, and nothing computed twice."""

import re
from typing import get_args

import pytest
from safetensors import safe_open

from velm_train.core.errors import AssetError, DataError
from velm_train.models.families.build import FamilyName

FAMILIES = get_args(FamilyName)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_road_runs_to_its_report(family: FamilyName, road, run_again) -> None:
    run = run_again(f"model=tiny_{family}", "logger=none")
    assert "alignment is left out: only the embedded model's projector starts from nothing" in run.shown
    assert {row.image_id: row.pred_label for row in run.predictions} == {
        row.image_id: row.pred_label for row in road.predictions
    }
    for row in run.predictions:
        assert bool(row.option_log_likelihoods) == row.pred_label
        assert all(-1000 < value < 0 for value in row.option_log_likelihoods.values())
    names = [row.name for row in run.results.scoreboard.rows]
    on_the_gates_backbone = [name for name in names if name.endswith("on the detector's backbone")]
    assert len(on_the_gates_backbone) == 2
    assert [name for name in names if name not in on_the_gates_backbone] == [
        row.name for row in road.results.scoreboard.rows
    ]
    assert (run.folder / "report.html").is_file()
    with safe_open(run.folder / "adapter" / "adapter_model.safetensors", framework="pt") as tensors:
        assert not [name for name in tensors.keys() if "vision" in name or "visual" in name]  # noqa: SIM118
    assert (run.folder / "adapter" / "look_twice.safetensors").is_file()
    assert not (run.folder / "adapter" / "projector.safetensors").exists()


@pytest.mark.slow
def test_a_second_run_reuses_every_stage(run_again) -> None:
    words = ("model=tiny_internvl", "logger=none")
    first, second = run_again(*words), run_again(*words)
    for stage in ("features of crops, test", "features", "adapters", "predictions"):
        assert f"{stage}: reused" in second.shown or f"reused {stage}/" in second.shown, stage
    assert second.predictions == first.predictions
    assert second.results.scoreboard == first.results.scoreboard


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("model=tiny_llava_onevision", "model.hub.max_pixels=3136", "look_twice=published"),
        ("model=tiny_qwen3_vl", "model.dtype=bfloat16", "look_twice=map"),
        ("model=tiny_smolvlm", "model.hub.train_projector=true", "look_twice.mask_weight=1.0"),
        (
            "model=tiny_qwen2_5_vl",
            "look_twice=off",
            "model.hub.max_pixels=12544",
            "model.hub.attn_implementation=eager",
        ),
    ],
)
def test_settings_of_families_go_together(words: tuple[str, ...], run_again) -> None:
    run = run_again(*words, "logger=none")
    names = [row.name for row in run.results.scoreboard.rows]
    assert ("second look taken away" in names) == ("look_twice=off" not in words)
    assert (run.folder / "adapter" / "projector.safetensors").exists() == any("train_projector" in one for one in words)
    if "model.hub.train_projector=true" in words:
        with safe_open(run.folder / "adapter" / "projector.safetensors", framework="pt") as tensors:
            assert all(str(tensors.get_slice(name).get_dtype()) == "F32" for name in tensors.keys())  # noqa: SIM118


@pytest.mark.slow
def test_another_choice_of_what_learns_is_another_adapter(run_again) -> None:
    words = ("task=train", "model=tiny_internvl", "logger=none")
    run_again(*words)
    second = run_again(*words, "model.hub.train_projector=true")
    assert "reused features/" in second.shown
    assert "reused adapters/" not in second.shown


def test_preview_counts_the_places_of_views_of_every_size(run_again) -> None:
    run = run_again("task=preview", "task.num_preview=1", "model=tiny_qwen2_5_vl")
    page = (run.folder / "preview.html").read_text()
    (fewest, most) = re.search(r"Each view takes (\d+) to (\d+) image tokens", page).groups()  # type: ignore[union-attr]
    assert 5 < int(fewest) < int(most)
    assert "<|image_pad|>x" in run.shown


def test_checkpoint_that_is_not_on_disk_is_named_before_anything_is_computed(run_again) -> None:
    with pytest.raises(AssetError, match=r"models--Qwen--Qwen2\.5-VL-3B-Instruct is missing .*hf download Qwen/Qwen2"):
        run_again("model=qwen2_5_vl_3b", "logger=none", "seed=77")


def test_sample_beyond_the_limit_is_refused_by_name(run_again) -> None:
    with pytest.raises(DataError, match=r"textures/.*: \d+ tokens, more than max_tokens=64"):
        run_again("task=train", "model=tiny_smolvlm", "logger=none", "instructions.max_tokens=64")


def test_more_views_than_the_model_takes_are_refused_by_name(run_again) -> None:
    words = ("model.hub.max_views=1", "instructions.tasks.name_type.views=[reference,crop]")
    with pytest.raises(DataError, match=r"textures/.*: 2 views, this model takes 1 at most"):
        run_again("task=train", "model=tiny_internvl", "logger=none", *words)
