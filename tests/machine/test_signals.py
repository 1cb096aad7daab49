"""What asks a run to stop."""

import os
import signal

import pytest

from masklater.machine.signals import StopOnSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_kept_for_the_end_of_the_step_unless_it_was_ignored(number: signal.Signals) -> None:
    """A closed terminal sends SIGHUP; nohup ignores that, and a shell ignores Ctrl-C for what a script leaves behind."""
    before = signal.getsignal(number)
    with StopOnSignal() as stop:
        os.kill(os.getpid(), number)
    assert stop.received == number and signal.getsignal(number) == before
    try:
        signal.signal(number, signal.SIG_IGN)
        with StopOnSignal() as stop:
            os.kill(os.getpid(), number)
        assert stop.received is None and signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
