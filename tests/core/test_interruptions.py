"""Signals that ask a process to end."""

import os
import signal
import threading
import time

import pytest

from cnnzoo.core import signals
from cnnzoo.stages.entry import explain_faults


@pytest.fixture(autouse=True)
def default_handlers():
    """A job in the background ignores some of them from its start."""
    before = {number: signal.getsignal(number) for number in signals.STOPPING}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


EACH_SIGNAL = pytest.mark.parametrize("number", signals.STOPPING, ids=lambda number: number.name)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python calls the handler between two instructions


@EACH_SIGNAL
def test_every_one_ends_the_work_as_a_failure_with_a_message(number, capsys):
    assert explain_faults(lambda: send(number)) == 128 + number
    assert capsys.readouterr().err.startswith(f"error: interrupted ({number.name}). Run the same command again")


@EACH_SIGNAL
def test_handlers_are_those_of_before_afterwards(number):
    before = signal.getsignal(number)
    explain_faults(lambda: None)
    explain_faults(lambda: send(number))
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert explain_faults(lambda: send(signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@EACH_SIGNAL
def test_held_back_until_it_is_asked_for(number):
    def work() -> None:
        with signals.held_back() as stop:
            stop.check()
            send(number)
            assert stop.requested is not None
            assert stop.requested.exit_code == 128 + number
            stop.check()
            pytest.fail("not raised")

    with pytest.raises(signals.Interrupted):
        work()


def test_held_back_until_the_end_at_the_latest():
    reached = []

    def work() -> None:
        with signals.held_back():
            send(signal.SIGTERM)
            reached.append("the end of the block")

    with pytest.raises(signals.Interrupted):
        work()
    assert reached


def test_a_second_signal_is_not_held_back():
    def work() -> None:
        with signals.held_back():
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            pytest.fail("not raised")

    with pytest.raises(signals.Interrupted):
        work()


def test_in_another_thread_nothing_changes():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with signals.raising(), signals.held_back() as stop:
            seen.append((signal.getsignal(signal.SIGTERM), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, None)]


@pytest.mark.parametrize("code", [None, 0, 1])
def test_a_library_that_ends_the_program_has_not_done_the_work(code, capsys):
    """Lightning ends a process that gets SIGTERM with a SystemExit without a code."""

    def work() -> None:
        raise SystemExit(code)

    assert explain_faults(work) == 130
    assert "interrupted" in capsys.readouterr().err


def test_an_error_in_the_clean_up_after_a_signal_is_an_interruption(capsys):
    """Lightning tears down a fit, and may fail if the signal came at a bad moment."""

    def work() -> None:
        try:
            send(signal.SIGTERM)
        finally:
            raise RuntimeError("Please call `iter(combined_loader)` first.")

    assert explain_faults(work) == 128 + signal.SIGTERM
    assert capsys.readouterr().err.startswith("error: interrupted (SIGTERM)")
