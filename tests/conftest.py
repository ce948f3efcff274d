"""What all tests share: who runs them, how much they do, and what the set-up has fetched for them."""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parent.parent


class Count(Protocol):
    """Picks the number of rounds of a test: see the fixture `count`."""

    def __call__(self, short: int, long: int) -> int: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--long`, and `--record-requests` for tests/overlay/test_requests.py."""
    parser.addoption("--record-requests", action="store_true", help="make the record of requests anew")
    parser.addoption("--long", action="store_true", help="run tests at their full counts, which takes long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked as `long` unless `--long` was given."""
    if not config.getoption("--long"):
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


def pytest_sessionstart() -> None:
    """Refuses root, as whom nearly every test here would pass for the wrong reason."""
    if os.geteuid() == 0:
        pytest.exit("sb is for ordinary users, and so are its tests: contrib/test runs them as one", returncode=1)
    _catch_ignored_signals()


def _catch_ignored_signals() -> None:
    """Goes on ignoring what the caller ignores, but lets no child inherit that.

    `&` in a script ignores SIGINT, nohup SIGHUP. A signal that is caught has its default again after execve(2);
    one that is ignored stays so.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """An overlay in this process has taken the umask away: the tests after it have it again."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def count(pytestconfig: pytest.Config) -> Count:
    """`count(short, long)`: how often to do what a test repeats, the second number with `--long`."""
    is_long = bool(pytestconfig.getoption("--long"))

    def pick(short: int, long: int) -> int:
        return long if is_long else short

    return pick


@pytest.fixture(scope="session")
def hello_deb() -> Path:
    """The Debian package `hello`, which contrib/test fetches to .venv/packages with apt-get."""
    packages = sorted(CHECKOUT.glob(".venv/packages/hello_*.deb"))
    if not packages:
        pytest.skip("no Debian package hello in .venv/packages: there is no apt-get, or it found no network")
    return packages[-1]


@pytest.fixture
def subordinate_ids() -> int:
    """How many subordinate user ids this user has."""
    lines = [line.split(":") for line in Path("/etc/subuid").read_text().splitlines()]
    owners = (pwd.getpwuid(os.getuid()).pw_name, str(os.getuid()))
    granted = sum(int(size) for owner, _, size in lines if owner in owners)
    if not granted:
        pytest.skip("this user has no subordinate ids in /etc/subuid")
    return granted
