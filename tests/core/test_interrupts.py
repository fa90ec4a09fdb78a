"""Preemption signals become one exception, and from then on disturb nothing."""

import signal
import threading
from collections.abc import Iterator

import pytest

from velm_train.core.interrupts import PREEMPTION_SIGNALS, Preempted, preemption_raised


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in PREEMPTION_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", PREEMPTION_SIGNALS, ids=lambda number: number.name)
def test_a_signal_is_raised_once_and_named(number: signal.Signals) -> None:
    tidied = []

    def work() -> None:
        with preemption_raised():
            try:
                signal.raise_signal(number)
            finally:
                for other in PREEMPTION_SIGNALS:
                    signal.raise_signal(other)
                tidied.append(True)

    with pytest.raises(Preempted, match=number.name) as caught:
        work()
    assert caught.value.number == number
    assert tidied == [True]
    for other in PREEMPTION_SIGNALS:  # the way to the exit is still ahead
        signal.raise_signal(other)


def test_it_is_a_kind_of_ctrl_c_and_no_exception_that_libraries_catch() -> None:
    assert issubclass(Preempted, KeyboardInterrupt)
    assert not issubclass(Preempted, Exception)


def test_without_a_signal_the_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in PREEMPTION_SIGNALS]
    with preemption_raised():
        assert [signal.getsignal(number) for number in PREEMPTION_SIGNALS] != before
    assert [signal.getsignal(number) for number in PREEMPTION_SIGNALS] == before


def test_another_thread_leaves_the_handlers_alone() -> None:
    before = [signal.getsignal(number) for number in PREEMPTION_SIGNALS]
    seen = []

    def work() -> None:
        with preemption_raised():
            seen.append([signal.getsignal(number) for number in PREEMPTION_SIGNALS])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
