"""Whether a caller may have what the agent has: decided by comparing all that the kernel says of both."""

from __future__ import annotations

import pytest

from rootless_sb.agent import callers

OWN = callers.look("self")


def test_alike() -> None:
    """A process differs in nothing from itself."""
    assert "" == callers.difference(OWN, callers.look("self"))


@pytest.mark.parametrize("name", sorted(OWN.fixed))
def test_each_difference_counts(name: str) -> None:
    """Whatever of it all is another value, or can't be known, is named."""
    for value in ("", "another"):
        if OWN.fixed[name] != value:
            assert name == callers.difference(OWN, OWN._replace(fixed={**OWN.fixed, name: value}))
    without = {known: value for known, value in OWN.fixed.items() if known != name}
    assert name == callers.difference(OWN, OWN._replace(fixed=without))


def test_what_is_compared() -> None:
    """Ids and groups, capabilities, no_new_privs, seccomp, namespaces, root, cgroup and login are among it."""
    names = {"Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters"}
    names |= {"namespace user", "namespace mnt", "namespace net", "root", "cgroup", "attr/current", "sessionid"}
    assert set() == names - set(OWN.fixed)


def test_signals() -> None:
    """Bit n - 1 of a mask stands for signal n."""
    assert (1, 15, 64) == callers.signals(1 << 0 | 1 << 14 | 1 << 63)
