"""What the system says of memory is of the right size."""

import numpy as np
import psutil

from velm_train.core import memory


def test_the_peak_holds_what_was_held_and_can_be_forgotten() -> None:
    assert memory.forget_peak()
    before = memory.resident_bytes()
    held = np.ones(8_000_000)  # 64 MB
    del held
    peak = memory.resident_peak_bytes()
    assert peak is not None
    assert peak >= before + 50_000_000
    memory.forget_peak()
    later = memory.resident_peak_bytes()
    assert later is not None
    assert later < peak


def test_no_more_is_available_than_the_machine_or_the_job_has(tmp_path, monkeypatch) -> None:
    assert 0 < memory.available_bytes() <= psutil.virtual_memory().total
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    free = memory.available_bytes()
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory.available_bytes() == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() > free / 2
