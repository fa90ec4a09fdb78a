"""The engine benchmark's systems do the same work: equal tokens, equal losses, whatever lever is on."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

ENGINE = Path(__file__).parents[2] / "experiments" / "benchmarks" / "engine"
STEPS = 2


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(ENGINE))
    names = ("measures", "own", "peers", "scene", "small_qwen", "systems")
    return SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture
def scene(bench: SimpleNamespace, tmp_path: Path):
    counts = bench.scene.Counts(images=4, questions=2, epochs=2, batch_size=4, grids_hw=((2, 3), (4, 3)))
    return bench.scene.make_scene(tmp_path, counts).first_steps(STEPS)


@pytest.fixture
def own_losses(bench: SimpleNamespace, scene) -> Callable[..., list[float]]:
    def run(**changes: object) -> list[float]:
        model = bench.systems.new_model(bench.small_qwen.SMALLEST, scene)
        levers = replace(bench.own.ALL_LEVERS, **changes)
        return bench.systems.own_run(model, bench.systems.renderer_of(model), scene, levers)()

    return run


@pytest.fixture
def plain_losses(bench: SimpleNamespace, scene) -> list[float]:
    case = bench.systems.QwenCase(sizes=bench.small_qwen.SMALLEST)
    return case.prepare(bench.systems.PLAIN, scene)()


def test_the_engine_and_a_plain_loop_have_equal_losses(own_losses, plain_losses: list[float]) -> None:
    assert own_losses() == pytest.approx(plain_losses, rel=1e-5)
    assert len(set(plain_losses)) == STEPS


def test_logits_of_all_positions_change_no_loss(own_losses, plain_losses: list[float]) -> None:
    losses = own_losses(cache=False, rows=False, questions_per_image=1, supervised_logits=False)
    assert losses == pytest.approx(plain_losses, rel=1e-5)


def test_answer_and_stop_token_carry_loss_in_the_plain_loop_as_in_the_engine(bench: SimpleNamespace, scene) -> None:
    model = bench.systems.new_model(bench.small_qwen.SMALLEST, scene)
    encoded = bench.systems.renderer_of(model).encode(scene.samples[0])
    batch = bench.peers.PlainCollator(model.writer.processor)([scene.samples[0]])
    assert batch["input_ids"][0].tolist() == list(encoded.input_ids)
    assert batch["labels"][0].tolist() == list(encoded.labels)


def test_every_epoch_visits_every_question_once_and_those_of_a_picture_together(
    bench: SimpleNamespace, tmp_path
) -> None:
    counts = bench.scene.Counts(images=3, questions=2, epochs=2, batch_size=3, grids_hw=((2, 3),))
    visits = bench.scene.make_scene(tmp_path, counts).visits
    assert sorted(visits[:6]) == sorted(visits[6:]) == list(range(6))
    assert all(first // 2 == second // 2 for first, second in zip(visits[::2], visits[1::2], strict=True))


def test_the_slope_of_a_square_is_two(bench: SimpleNamespace) -> None:
    assert bench.measures.slope([(1, 3), (2, 12), (4, 48)]) == pytest.approx(2)


def test_a_ratio_above_one_is_faster_than_the_reference(bench: SimpleNamespace) -> None:
    slow, fast = (bench.measures.Reading(cpu_seconds=s, wall_seconds=s, losses=[]) for s in (6.0, 2.0))
    assert bench.measures.ratios([slow], [fast]) == [3.0]
