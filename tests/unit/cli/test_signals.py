"""Signals end a run once, in order, and the handlers of before come back."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from gradviz_cli.cli.signals import SIGNALS, Stopped, limited, stopping
from gradviz_cli.errors import TimeUp, Unanswered


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_carries_the_code_that_shells_expect(number: signal.Signals, code: int) -> None:
    with pytest.raises(Stopped) as caught, stopping():
        os.kill(os.getpid(), number)
    assert caught.value.code == code


def test_no_handler_on_the_way_takes_it_for_a_failure() -> None:
    seen = []
    with pytest.raises(Stopped), stopping():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception as error:
            seen.append(error)
    assert seen == []


def test_what_the_compiler_drops_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what is raised while it works out `2**63` for a sign that there is no such constant."""
    monkeypatch.setattr("gradviz_cli.cli.signals.SIGNALS", (signal.SIGALRM,))  # a clock rings amid the C code
    with pytest.raises(Stopped), stopping():
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        compile("x = 2**63\n" * 10_000, "constants", "exec")
        time.sleep(20)


def test_further_signals_change_nothing() -> None:
    """What cleans up after the first one is not stopped by the second."""
    cleaned = []
    with pytest.raises(Stopped) as caught, stopping():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGHUP)
            cleaned.append(True)
    assert cleaned == [True] and caught.value.code == 143


def test_nohup_is_respected(handlers) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, handlers[signal.SIGHUP])


def test_another_thread_takes_no_handlers() -> None:
    """Python refuses them there; the run goes on without."""
    found = []

    def work() -> None:
        with stopping():
            found.append({number: signal.getsignal(number) for number in SIGNALS})

    before = {number: signal.getsignal(number) for number in SIGNALS}
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_clock_rings_once_unless_it_is_put_out() -> None:
    with pytest.raises(TimeUp, match="--max-duration"), limited(0.01):
        time.sleep(20)
    with limited(0.01) as begun:
        begun()
        time.sleep(0.5)
    with limited(None) as begun:
        begun()
    with pytest.raises(Unanswered, match="the store does not answer"), limited(0.01) as begun:
        begun(0.01)
        time.sleep(20)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
