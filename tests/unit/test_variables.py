"""Which variables stay outside."""

from __future__ import annotations

import pytest

from rootless_sb import plan, variables
from rootless_sb.spec import RunSpec
from tests.unit.hosts import HOST

SECRETS = [
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "DB_PASSWORD",
    "npm_config__auth",
    "SSH_AUTH_SOCK",
    "API_KEY",
    "PGPASSWORD",
]
PLAIN = ["PATH", "HOME", "GIT_AUTHOR_NAME", "KEYBOARD", "TOKENIZERS_PARALLELISM", "MONKEY", "LANG", "XDG_RUNTIME_DIR"]


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_stay_outside(name: str) -> None:
    """A word between underscores tells, whatever its case; so do some names."""
    assert variables.is_withheld(name)


@pytest.mark.parametrize("name", PLAIN)
def test_other_names_go_along(name: str) -> None:
    """A word that only begins like a secret's is none."""
    assert not variables.is_withheld(name)


def test_what_is_asked_for_comes_in() -> None:
    """-e has the last word; --verbose tells the names that are withheld, and never a value."""
    host = HOST._replace(environment=(("A_TOKEN", "1"), ("B_TOKEN", "2"), ("PLAIN", "3")))
    wanted = RunSpec(environment=(("B_TOKEN", "2"),), verbose=True)
    assert {"B_TOKEN": "2", "PLAIN": "3"} == plan.target_environment(wanted, host)
    assert "variables withheld: A_TOKEN;" in plan.greeting(wanted, host)
    assert "variables withheld" not in plan.greeting(wanted._replace(verbose=False), host)
