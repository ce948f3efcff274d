"""Where sb's own things lie. Pure: from the environment to paths."""

from __future__ import annotations

# How many names there are for the directory of all sandboxes, should other users of /var/tmp have taken the first ones.
_CANDIDATES = 16


def store(environment: dict[str, str], home: str) -> str:
    """Where sandboxes that are kept lie, a directory each, and their names in `names`."""
    return f"{_data(environment, home)}/sandboxes"


def configurations(environment: dict[str, str], home: str) -> tuple[str, str]:
    """The configuration files, the site's and the user's."""
    own = _absolute(environment, "XDG_CONFIG_HOME") or f"{home.rstrip('/')}/.config"
    return "/etc/sb/config.toml", f"{own}/sb/config.toml"


def layer_places(environment: dict[str, str]) -> tuple[str, ...]:
    """Where a layer that will be thrown away may lie, best first: never a home, which may be a network's."""
    wanted = (environment.get("SLURM_TMPDIR"), environment.get("TMPDIR"), "/var/tmp", "/tmp")
    return tuple(dict.fromkeys(path.rstrip("/") for path in wanted if path and path.startswith("/")))


def base_names(uid: int) -> tuple[str, ...]:
    """The names that the directory of a user's sandboxes may have in a place which others write to too."""
    return (f"sb-{uid}", *(f"sb-{uid}-{number}" for number in range(1, _CANDIDATES)))


def own_paths(environment: dict[str, str], uid: int, home: str) -> tuple[str, ...]:
    """Everything of sb's own that no sandbox may see: state, store, sockets, and all layers."""
    home = home.rstrip("/")
    cache = _absolute(environment, "XDG_CACHE_HOME") or f"{home}/.cache"
    runtime = _absolute(environment, "XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    layers = (f"{place}/{name}" for place in layer_places(environment) for name in base_names(uid))
    return (_data(environment, home), f"{cache}/sb", f"{runtime}/sb", *layers)


def _data(environment: dict[str, str], home: str) -> str:
    """The directory of what sb keeps; the one variable that moves it alone is SB_DATA_HOME."""
    base = _absolute(environment, "XDG_DATA_HOME") or f"{home.rstrip('/')}/.local/share"
    return _absolute(environment, "SB_DATA_HOME") or f"{base}/sb"


def _absolute(environment: dict[str, str], name: str) -> str | None:
    """A directory that the environment names; a relative one counts for nothing (XDG Base Directory Specification)."""
    value = environment.get(name, "")
    return value if value.startswith("/") else None
