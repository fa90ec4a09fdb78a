"""The same seed gives the same figures; every source of suspicion and every shipped experiment runs."""

import dataclasses

import pytest

from velm_train.cli.compose import experiment_names

pytestmark = pytest.mark.slow

SHORT = ("alignment.max_steps=1", "trainer.max_steps=1", "logger=none", "evaluation.baselines=[]")


def test_seed_zero_gives_the_same_bits_on_fresh_artefacts(road, run_fresh) -> None:
    again = run_fresh
    assert "reused" not in again.shown
    assert again.config.seed == 0
    assert [dataclasses.replace(row, seconds={}) for row in again.predictions] == [
        dataclasses.replace(row, seconds={}) for row in road.predictions
    ]
    for path in sorted((road.folder / "adapter").iterdir()):
        assert (again.folder / "adapter" / path.name).read_bytes() == path.read_bytes(), path.name


def test_other_seed_gives_other_weights(road, run_again) -> None:
    other = run_again("seed=1", *SHORT)
    name = "adapter/projector.safetensors"
    assert (other.folder / name).read_bytes() != (road.folder / name).read_bytes()


@pytest.mark.parametrize("source", ["learned", "map", "random", "centre", "oracle", "published", "off"])
def test_every_source_of_suspicion_runs(source: str, run_again) -> None:
    run = run_again(f"look_twice={source}", *SHORT)
    assert (run.folder / "adapter" / "look_twice.safetensors").exists() == (source != "off")
    assert any(row.option_log_likelihoods for row in run.predictions)


CHOICES = (
    "lora.variant=dora lora.targets=attention",
    "lora.variant=pissa model.dtype=float32",
    "lora.variant=rslora lora.dropout=0.1 trainer.accumulate=2",
    "gate.policy=off evaluation.option_orders=3",
    (
        "instructions.tasks.name_type.views=[reference,query_contour,crop] instructions.with_descriptions=true "
        "instructions.max_tokens=512"
    ),
    "protocol.calibration_fraction=0.5 gate.alpha=0.4 regions.max_regions=3",
    (
        "detector.backbone=efficientnet_lite0 detector.layers=[stride8,stride16] detector.input_height_px=96 "
        "detector.input_width_px=128"
    ),
)


@pytest.mark.parametrize("words", CHOICES, ids=lambda words: words.split()[0])
def test_choices_that_change_the_road_reach_its_end(words: str, run_again) -> None:
    run = run_again(*words.split(), *SHORT)
    assert any(row.option_log_likelihoods for row in run.predictions)
    assert (run.folder / "report.html").is_file()


@pytest.mark.parametrize("name", experiment_names())
def test_every_shipped_experiment_reaches_its_end_in_its_smallest_form(name: str, run_again) -> None:
    run = run_again(f"experiment={name}", *SHORT)
    assert run.config.name == "debug"
    assert (run.folder / "report.html").is_file()
