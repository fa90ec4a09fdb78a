"""What is saved when, what stays, and what a disk without room does: nothing is lost that was there."""

import errno
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from velm_train.core.errors import ArtifactError, ResourceError
from velm_train.training.checkpoint_files import Origin, complete_ones
from velm_train.training.fit import fit_adapter
from velm_train.training.optimiser import Optimisation
from velm_train.training.starting import Keeping

SETTINGS = Optimisation(max_steps=6, learning_rates={"lora": 1e-2, "projector": 2e-3, "look_twice": 5e-3})
PLAIN = (dict, list, tuple, str, int, float, bool, type(None), torch.Tensor)


@pytest.fixture
def tune(tiny_model, tiny_data, cpu, output_in):
    """Returns a function that trains for six steps in a folder."""

    def run(folder: Path, *, keeping: Keeping, every: int = 1, on_step=lambda: None):
        model = tiny_model()
        model.on_step = on_step
        summary = fit_adapter(
            model,
            tiny_data.module(balance="hard"),
            optimisation=SETTINGS,
            engine=cpu,
            output=replace(output_in(folder), checkpoint_every=every, keeping=keeping),
        )
        return model, summary

    return run


def steps(folder: Path) -> list[int]:
    return [one.step for one in complete_ones(folder / "checkpoints")]


@pytest.mark.parametrize(("last", "every", "kept"), [(1, 1, [6]), (2, 1, [6, 5]), (3, 2, [6, 4, 2]), (9, 4, [6, 4])])
def test_the_newest_few_stay(tune, tmp_path, last, every, kept):
    tune(tmp_path, keeping=Keeping(last=last), every=every)
    assert steps(tmp_path) == kept


def test_all_of_a_checkpoint_is_plain_and_loads_as_weights_only(tune, tmp_path):
    tune(tmp_path, keeping=Keeping(last=6, origin=Origin(stage="a", settings={"seed": 0}, versions={})))
    for one in complete_ones(tmp_path / "checkpoints"):
        left = [torch.load(one.path, weights_only=True)]
        while left:
            value = left.pop()
            assert isinstance(value, PLAIN), type(value)
            left += list(value.values()) if isinstance(value, dict) else []
            left += list(value) if isinstance(value, list | tuple) else []
        assert one.origin == Origin(stage="a", settings={"seed": 0}, versions={})


def interrupt_in(step: int):
    made = []

    def on_step() -> None:
        if torch.is_grad_enabled():
            made.append(1)
            if len(made) == step:
                signal.raise_signal(signal.SIGINT)

    return on_step


def test_a_damaged_newest_gives_way_to_the_older_and_the_end_is_the_same(tune, tmp_path):
    whole, _ = tune(tmp_path / "whole", keeping=Keeping())
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "parts", keeping=Keeping(), on_step=interrupt_in(4))
    assert steps(tmp_path / "parts") == [4, 3]
    newest = tmp_path / "parts" / "checkpoints" / "step_000004.ckpt"
    newest.write_bytes(newest.read_bytes()[:-100])
    model, summary = tune(tmp_path / "parts", keeping=Keeping())
    assert summary.first_step == 3
    assert steps(tmp_path / "parts") == [6, 5]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_starting_anew_clears_the_folder_and_goes_on_in_the_same_run(tune, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, keeping=Keeping(run="one"), on_step=interrupt_in(4))
    anew = Keeping(start="none", run="two")
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, keeping=anew, on_step=interrupt_in(2))
    assert steps(tmp_path) == [2, 1]
    _, summary = tune(tmp_path, keeping=anew)
    assert summary.first_step == 2


def test_an_older_checkpoint_is_gone_on_from_and_what_lay_ahead_is_made_again(tune, tmp_path):
    whole, _ = tune(tmp_path, keeping=Keeping(last=6))
    third = complete_ones(tmp_path / "checkpoints")[3]
    assert third.step == 3
    model, summary = tune(tmp_path, keeping=Keeping(last=6, start=third))
    assert summary.first_step == 3
    assert steps(tmp_path) == [6, 5, 4, 3, 2, 1]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_a_second_ctrl_c_while_saving_leaves_the_older_checkpoint(tune, tmp_path, monkeypatch):
    import velm_train.training.checkpoints as saving  # noqa: PLC0415 - to interrupt between its steps

    publish, made = saving.publish, []

    def interrupted(path, **named):
        made.append(path)
        if len(made) == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        publish(path, **named)

    monkeypatch.setattr(saving, "publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, keeping=Keeping())
    assert steps(tmp_path) == [2, 1]
    monkeypatch.undo()
    _, summary = tune(tmp_path, keeping=Keeping())
    assert summary.first_step == 2
    assert list((tmp_path / "checkpoints").glob(".*.partial")) == []


def test_without_room_training_goes_on_and_the_older_checkpoint_stays(tune, tmp_path, caplog):
    passes, limits = [], resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up() -> None:
        if torch.is_grad_enabled():
            passes.append(1)
            if len(passes) == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            if len(passes) == 6:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        whole, _ = tune(tmp_path / "whole", keeping=Keeping())
        model, _ = tune(tmp_path / "parts", keeping=Keeping(last=6), on_step=fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert steps(tmp_path / "parts") == [6, 2, 1]
    assert [f"step {step} is not saved" in caplog.text for step in range(1, 7)] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]
    assert len((tmp_path / "parts" / "history.csv").read_text().splitlines()) == 7
    for name, value in whole.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_no_room_at_the_very_end_is_an_error(tune, tmp_path):
    passes, limits = [], resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up() -> None:
        if torch.is_grad_enabled():
            passes.append(1)
            if len(passes) == 6:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(ResourceError, match=r"history\.csv"):
            tune(tmp_path, keeping=Keeping(), on_step=fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert steps(tmp_path) == [5, 4]


def test_a_folder_that_cannot_be_written_is_an_error_at_once(tune, tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(ResourceError, match="cannot write to"):
        tune(tmp_path, keeping=Keeping())


def test_best_weights_that_were_never_saved_are_an_error(tune, tmp_path):
    with pytest.raises(ArtifactError, match=r"no complete checkpoint with a validation loss for callbacks\.use_best"):
        tune(tmp_path, keeping=Keeping(use_best=True))


def test_the_system_s_words_for_a_full_disk_are_known():
    from velm_train.training.checkpoints import _passing_problem  # noqa: PLC0415 - what only a full disk can say

    full = OSError(errno.ENOSPC, "No space left on device")
    assert _passing_problem(full) == "[Errno 28] No space left on device"
    assert _passing_problem(PermissionError(errno.EACCES, "Permission denied")) is None
    assert (
        _passing_problem(RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")) is not None
    )
    assert _passing_problem(RuntimeError("shapes differ")) is None
