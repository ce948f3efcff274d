"""What an agent has made in advance for the next run."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.agents import standby
from tests.sandbox.running import PATIENCE, eventually, stdout_until

if TYPE_CHECKING:
    from tests.sandbox.agents import Agent

NETWORK = ("readlink", "/proc/self/ns/net")


def _prepared(agent: Agent) -> tuple[int, str]:
    """Once a worker waits and has made a network: its pid, and what /proc calls that. Nothing else is called so as long
    as the agent lives: the test holds it.
    """
    eventually(lambda: standby()[1])
    pid, path = standby()
    agent.held.append(os.open(path, os.O_RDONLY))
    return pid, os.readlink(path)


@pytest.fixture
def with_many_ids(agent: Agent) -> Agent:
    """One whose sandboxes have subordinate ids: those are prepared."""
    if len(agent.cold("--no-agent", "--", "cat", "/proc/self/uid_map").splitlines()) < 2:
        pytest.skip("no subordinate ids")
    return agent


def test_what_is_prepared_is_used_once(with_many_ids: Agent) -> None:
    """Each run has the network that was made for it in advance, and nobody else's; so have two at once."""
    agent = with_many_ids
    seen = set()
    for _ in range(3):
        _, network = _prepared(agent)
        first = agent.sb.start("-q", "-i", "--", "sh", "-c", f"{' '.join(NETWORK)}; read line")
        assert f"{network}\n".encode() == stdout_until(first, b"\n")
        second = agent.warm("--", *NETWORK)
        assert second != f"{network}\n"
        first.communicate(b"\n", timeout=PATIENCE)
        seen.add(network)
    assert 3 == len(seen)


def test_what_is_prepared_is_the_sandboxes_own(with_many_ids: Agent) -> None:
    """Its root owns what the kernel shows of the network, as in one that was made without an agent."""
    _, network = _prepared(with_many_ids)
    shown = with_many_ids.warm("--", "sh", "-c", f"{' '.join(NETWORK)}; stat -c %u:%g /proc/net/dev /proc/net/tcp")
    assert [network, "0:0", "0:0"] == shown.splitlines()


def test_what_is_prepared_does_not_suit(with_many_ids: Agent) -> None:
    """Other ids, and a lower limit that holds for the user namespace too, take namespaces of their own."""
    agent = with_many_ids
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NPROC, (5000, 5000))"
    less = f"{limit}; os.execv(sys.argv[1], sys.argv[1:])"
    for words, through in ((("--userns", "single"), ()), ((), (sys.executable, "-I", "-c", less))):
        _, network = _prepared(agent)
        found = agent.warm(*words, "--", *NETWORK, through=through)
        assert found.startswith("net:")
        assert f"{network}\n" != found
    _prepared(agent)
    own = os.readlink("/proc/self/ns/net")
    assert f"{own}\n" == agent.warm("--allow-degraded", "net", "--", *NETWORK)


def test_the_hosts_name(with_many_ids: Agent) -> None:
    """--uts host: of what was prepared, that namespace isn't entered."""
    agent = with_many_ids
    _, network = _prepared(agent)
    shown = agent.warm("--uts", "host", "--", "readlink", "/proc/self/ns/net", "/proc/self/ns/uts")
    assert [network, os.readlink("/proc/self/ns/uts")] == shown.split()


def test_who_waits_is_killed(with_many_ids: Agent) -> None:
    """The next run makes all by itself, and has somebody wait again."""
    agent = with_many_ids
    pid, network = _prepared(agent)
    os.kill(pid, signal.SIGKILL)
    assert f"{network}\n" != agent.warm("--", *NETWORK)
    assert pid != _prepared(agent)[0]


def test_who_waits_ends_with_the_agent(with_many_ids: Agent) -> None:
    """The agent is killed: nobody waits for a call that can't come."""
    _prepared(with_many_ids)
    with_many_ids.close()
    eventually(lambda: not with_many_ids.sb.left_behind())
