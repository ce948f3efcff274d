"""When asking a sandbox to end turns into ending it."""

from __future__ import annotations

import signal

import pytest

from rootless_sb.ending import (
    CONTINUE,
    END_COMMAND,
    END_SANDBOX,
    END_SERVER,
    END_WATCHER,
    FORWARD,
    GRACE,
    LEAVE,
    NOTHING,
    SUSPEND,
    TEARDOWN,
    Ending,
    backstop,
    when_stopped,
)


def test_the_second_request_ends_the_sandbox() -> None:
    """Whatever two signals ask for an end."""
    ending = Ending()
    assert FORWARD == ending.signalled(signal.SIGINT, 0.0)
    assert END_SANDBOX == ending.signalled(signal.SIGTERM, 1.5)


def test_two_of_a_kind_are_two_requests() -> None:
    """Ctrl-C twice is meant, however fast."""
    ending = Ending()
    assert [FORWARD, END_SANDBOX] == [ending.signalled(signal.SIGINT, now) for now in (0.0, 0.1)]


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGHUP), (signal.SIGHUP, signal.SIGHUP)])
def test_signals_that_come_together_are_one_request(numbers: tuple[int, int]) -> None:
    """systemd sends SIGTERM and SIGHUP, a terminal that goes SIGHUP twice: the command has its grace all the same."""
    ending = Ending()
    assert FORWARD == ending.signalled(numbers[0], 0.0)
    assert FORWARD == ending.signalled(numbers[1], 0.1)
    assert GRACE == ending.patience(0.0)


def test_what_was_typed_long_ago_is_forgotten() -> None:
    """A program that went on after Ctrl-C gets its grace when it is told to end later."""
    ending = Ending()
    assert FORWARD == ending.signalled(signal.SIGINT, 0.0)
    assert FORWARD == ending.signalled(signal.SIGTERM, 60.0)


def test_signals_that_ask_for_nothing() -> None:
    """SIGUSR1 is the command's, as often as it comes."""
    ending = Ending()
    assert [FORWARD] * 3 == [ending.signalled(signal.SIGUSR1, float(now)) for now in range(3)]
    assert None is ending.patience(3.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stubborn_command(number: int) -> None:
    """It is ended when its grace is over, then its server, and its watcher at last."""
    ending = Ending()
    ending.signalled(number, 5.0)
    assert GRACE == ending.patience(5.0)
    assert NOTHING == ending.overdue(5.0 + GRACE - 0.1)
    assert END_SANDBOX == ending.overdue(5.0 + GRACE)
    assert END_SERVER == ending.overdue(5.0 + GRACE + TEARDOWN)
    assert END_WATCHER == ending.overdue(5.0 + GRACE + 2 * TEARDOWN)
    assert NOTHING == ending.overdue(1000.0)


def test_what_is_typed_has_no_deadline() -> None:
    """A program may handle Ctrl-C and go on."""
    ending = Ending()
    ending.signalled(signal.SIGINT, 0.0)
    assert NOTHING == ending.overdue(1000.0)


def test_a_server_that_hangs_after_the_commands_end() -> None:
    """When the command has ended the rest must be gone in no time."""
    ending = Ending()
    ending.command_ended(2.0)
    assert TEARDOWN == ending.patience(2.0)
    assert END_SERVER == ending.overdue(2.0 + TEARDOWN)


def test_the_time_limit_asks_first() -> None:
    """When the time has passed the command is asked to end; after its grace the sandbox is ended."""
    ending = Ending(timeout=30.0)
    assert None is ending.patience(0.0)
    ending.command_started(5.0)
    assert (30.0, NOTHING, False) == (ending.patience(5.0), ending.overdue(34.0), ending.timed_out)
    assert (END_COMMAND, True) == (ending.overdue(35.0), ending.timed_out)
    assert [NOTHING, END_SANDBOX] == [ending.overdue(35.0 + after) for after in (GRACE - 1, GRACE)]


def test_a_command_that_ends_in_time_has_not_timed_out() -> None:
    """What a sandbox needs for its end doesn't count."""
    ending = Ending(timeout=30.0)
    ending.command_started(0.0)
    ending.command_ended(29.9)
    assert NOTHING == ending.overdue(30.1)
    assert not ending.timed_out


@pytest.mark.parametrize(
    ("number", "foreground", "action"),
    [
        (signal.SIGTSTP, True, SUSPEND),
        (signal.SIGSTOP, True, SUSPEND),
        (signal.SIGTSTP, False, CONTINUE),
        (signal.SIGTTIN, False, CONTINUE),
        (signal.SIGSTOP, False, LEAVE),
    ],
)
def test_a_stop_spreads_only_where_a_shell_resumes_it(number: int, foreground: bool, action: str) -> None:
    """Elsewhere sb goes on: nobody would continue it, and its time limit would not count."""
    assert action == when_stopped(number, foreground=foreground)


def test_the_backstop_comes_after_the_grace() -> None:
    """The supervisor has its turn first; without a limit there is none."""
    assert 5.0 + GRACE + TEARDOWN == backstop(5.0)
    assert None is backstop(0.0)
