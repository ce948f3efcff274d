"""Stores, registries and images for the tests here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.images import registries
from tests.images.archives import Member, archive, directory, symlink
from tests.images.layouts import Layout
from tests.images.registries import Registry, TokenServer, Unreliable
from tests.sandbox.running import PATIENCE, SB, Sandboxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Images(Sandboxes):
    """Runs `sb image` and `sb run` with a store, a cache and a configuration of this test's own in `place`."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.place = place
        self.config = place / "config/sb/config.toml"
        self.config.parent.mkdir(parents=True)
        self.docker = place / "docker"
        self.docker.mkdir()
        self.environment |= {
            "XDG_CACHE_HOME": str(place / "cache"),
            "XDG_CONFIG_HOME": str(place / "config"),
            "DOCKER_CONFIG": str(self.docker),
        }
        for name in ("REGISTRY_AUTH_FILE", "SB_DATA_HOME", "SB_FAULT"):
            self.environment.pop(name, None)

    def _processes(self) -> list[str]:
        """As for sandboxes, without the registries, which serve all tests."""
        return [each for each in super()._processes() if not each.startswith("docker-registry")]

    @property
    def store(self) -> Path:
        """The store."""
        return self.place / "data/sb"

    def image(self, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
        """Run `sb image ARGUMENTS`, which must succeed; what it printed."""
        done = self.try_image(*arguments, variables=variables)
        assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stderr)
        return done.stdout

    def try_image(
        self, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `sb image ARGUMENTS`."""
        return subprocess.run(
            [SB, "image", *arguments],
            env={**self.environment, **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start_image(self, *arguments: str, variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start `sb image ARGUMENTS`."""
        return subprocess.Popen(
            [SB, "image", *arguments],
            env={**self.environment, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def refused(self, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
        """Run `sb image ARGUMENTS`, which must fail in sb's own way: one line, perhaps a hint, 125. What it said."""
        done = self.try_image(*arguments, variables=variables)
        assert 125 == done.returncode, done
        said, _, hint = done.stderr.partition("\n\nhint: ")
        lines = [line for line in said.splitlines() if not line.startswith("sb: layer ")]
        assert 1 == len(lines), done.stderr
        assert lines[0].startswith("sb: ")
        assert hint.count("\n") <= 1
        return f"{lines[0]} | {hint.strip()}"

    def ls(self) -> dict[str, dict[str, object]]:
        """The images, by their ids."""
        return {each["id"]: each for each in json.loads(self.image("ls", "--json"))["images"]}

    def names(self) -> set[str]:
        """The names of all images."""
        return {str(name) for each in self.ls().values() for name in each["names"]}  # type: ignore[attr-defined]

    def inside(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Run a command on an image, which must succeed; what it printed."""
        done = self("--image", image, *options, "--", *command)
        assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stderr)
        return done.stdout

    def login(self, host: str, user: str, password: str) -> None:
        """Write docker's configuration as `docker login` does."""
        import base64

        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        (self.docker / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


@pytest.fixture
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """Runs `sb image` on a store that is empty at first."""
    made = Images(tmp_path_factory.mktemp("images"))
    yield made
    made.close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An OCI layout that is empty at first."""
    return Layout(tmp_path / "layout")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that asks nobody who they are. (Tests of sandboxes that come later look for stray processes.)"""
    made = Registry(tmp_path_factory.mktemp("registry"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def guarded_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that wants a password."""
    made = registries.with_passwords(tmp_path_factory.mktemp("guarded"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    """A token server."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl isn't installed")
    made = TokenServer(tmp_path_factory.mktemp("tokens"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def token_registry(tokens: TokenServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that wants tokens."""
    made = tokens.registry(tmp_path_factory.mktemp("token-registry"))
    yield made
    made.close()


@pytest.fixture
def unreliable(layout: Layout) -> Iterator[Unreliable]:
    """A registry that fails as it is told to, over `layout`."""
    made = Unreliable(layout.path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def busybox() -> bytes:
    """A layer with a busybox and its applets, so that an image can run something."""
    program = shutil.which("busybox", path=f"{os.environ.get('PATH', '')}:/bin:/usr/bin")
    if program is None:
        pytest.skip("busybox isn't installed")
    applets = (
        *("sh", "ls", "cat", "id", "env", "stat", "pwd", "sleep", "find", "touch", "rm", "mkdir", "echo", "chown"),
        *("true", "chmod"),
    )
    return archive(
        directory("bin"),
        Member("bin/busybox", Path(program).read_bytes(), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in applets),
        directory("etc"),
        Member("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n"),
        Member("etc/group", b"root:x:0:\nweb:x:33:\nmore:x:50:web\n"),
        directory("root", 0o700),
        directory("tmp", 0o1777),
    )


@pytest.fixture
def loaded(images: Images, layout: Layout, busybox: bytes) -> Callable[..., str]:
    """`loaded(LAYER…, CONFIG…)`: an image with busybox below these layers, in the store; its name."""

    def load(*layers: bytes, name: str = "test:1", **config: object) -> str:
        layout.image([busybox, *layers], name, **config)  # type: ignore[arg-type]  # JSON
        images.image("load", "-q", "-i", str(layout.path))
        return name

    return load
