"""Signals, on one process; that ranks agree is in test_resume.py."""

import os
import signal
from collections.abc import Callable
from types import SimpleNamespace

import pytest

pytest.importorskip("transformers", reason="redone-train cpt needs the packages of redone[train]")

from redone_train.train import stopping
from redone_train.train.stopping import SIGNALS, Stopping


def exit_code(behave: Callable[[], int]) -> int:
    """Of a process that does this."""
    child = os.fork()
    if not child:
        os._exit(behave())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ended(stop: Stopping, step: int, steps: int) -> SimpleNamespace:
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    stop.on_step_end(None, SimpleNamespace(global_step=step, max_steps=steps), control)  # type: ignore[arg-type]
    return control


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_and_stops_at_the_end_of_the_step(number: int) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    stop = Stopping()
    assert not ended(stop, 1, 9).should_training_stop
    os.kill(os.getpid(), number)
    control = ended(stop, 2, 9)
    assert control.should_save
    assert control.should_training_stop
    assert stop.asked
    stop.close()
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_run_told_to_stop_at_its_last_step_is_done() -> None:
    stop = Stopping()
    os.kill(os.getpid(), signal.SIGTERM)
    ended(stop, 9, 9)
    stop.close()
    assert not stop.asked


def test_a_launchers_echo_of_a_signal_does_not_cost_the_checkpoint() -> None:
    def behave() -> int:
        Stopping()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert exit_code(behave) == 0


def test_a_second_signal_ends_the_process_at_once() -> None:
    def behave() -> int:
        stopping.ECHO_SECONDS = 0.0
        Stopping()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert exit_code(behave) == 128 + signal.SIGTERM
