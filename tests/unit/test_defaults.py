"""Options from the environment and from configuration files."""

from __future__ import annotations

import pytest

from rootless_sb.cli import defaults, run
from rootless_sb.cli.defaults import Source
from rootless_sb.errors import SbError
from rootless_sb.settings import Document

KNOWN = defaults.known_options(run.parser())


def test_every_long_option_can_be_set() -> None:
    """All of them but --help, with `_` for `-`."""
    assert {"timeout", "hide", "keep", "allow_degraded", "tty", "env_file", "profile", "status_fd"} <= set(KNOWN)
    assert "help" not in KNOWN


def test_the_nearer_source_wins_and_lists_add_up() -> None:
    """A later source replaces a value, adds to an option that can be given several times, and undoes an opposite."""
    far = Source("far", {"timeout": "5m", "hide": ["/a", "/b"], "keep": True, "tty": True})
    near = Source("near", {"timeout": 30, "hide": "/c", "rm": True, "tty": False})
    assert ["--timeout=30", "--hide=/a", "--hide=/b", "--hide=/c", "--rm", "--no-tty"] == sorted(
        defaults.words([far, near], KNOWN), key=lambda word: ["--t", "--h", "--r", "--n"].index(word[:3])
    )
    assert "--keep" not in defaults.words([far], KNOWN, given=["rm"])
    assert "--keep" in defaults.words([far], KNOWN)


def test_variables() -> None:
    """`SB_` and the name in capitals; switches are 1 or 0; other variables are nobody's business."""
    environment = {
        "SB_TIMEOUT": "9s",
        "SB_HIDE": "/a\n/b",
        "SB_KEEP": "1",
        "SB_QUIET": "0",
        "SB_DATA_HOME": "/x",
        "KEEP": "1",
    }
    found = defaults.from_environment(environment, KNOWN)
    assert found is not None
    assert {"timeout": "9s", "hide": ["/a", "/b"], "keep": True, "quiet": False} == dict(found.values)
    assert None is defaults.from_environment({"PATH": "/bin", "sb_keep": "1"}, KNOWN)
    with pytest.raises(SbError, match="SB_KEEP=maybe: neither on nor off"):
        defaults.from_environment({"SB_KEEP": "maybe"}, KNOWN)


def test_profiles() -> None:
    """A profile stands above [run] of its file, and a file below the nearer one."""
    site = Document("/site", {"run": {"timeout": 1}, "profile": {"build": {"timeout": 2}}})
    own = Document("/own", {"run": {"timeout": 3}})
    assert [1, 2, 3] == [each.values["timeout"] for each in defaults.from_documents([site, own], "build")]
    assert [1, 3] == [each.values["timeout"] for each in defaults.from_documents([site, own], "")]
    with pytest.raises(SbError) as caught:
        defaults.from_documents([site, own], "biuld")
    assert "did you mean build?" == caught.value.hint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"timeuot": 1}, "/own: unknown key timeuot"),
        ({"keep": "yes"}, "/own: keep: neither true nor false"),
        ({"timeout": True}, "/own: timeout: not a text or a number"),
        ({"timeout": ["1s"]}, "/own: timeout: not a text or a number"),
        ({"hide": [1, {}]}, "/own: hide: not a text or a number"),
    ],
)
def test_what_is_no_setting(values: dict[str, object], message: str) -> None:
    """One line that names the file and the key."""
    with pytest.raises(SbError) as caught:
        defaults.words([Source("/own", values)], KNOWN)
    assert message == str(caught.value)
