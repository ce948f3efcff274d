"""`sb diff`, `export` and `cp` out of a sandbox whose command goes on changing everything."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.running import PATIENCE, SB, stdout_until, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Count
    from tests.sandbox.running import Sandboxes

# Directories come, go, are renamed and replaced, files grow and shrink, until stdin has something. With a time
# that is not 0, bash loses what comes in just as it runs out.
UNREST = """
mkdir -p busy; echo kept >busy/kept; echo ready
while ! read -t 0; do
    mkdir -p busy/a/b/c other/d; head -c 300000 /dev/zero >busy/a/b/large; echo x >busy/a/b/c/file; ln -s c busy/a/link
    mv busy/a/b busy/moved; mkdir busy/a/b; rm -r host/one; mv other/d busy/d; : >busy/moved/large
    head -c 500 /dev/urandom >host/two; mv busy/moved busy/a/b/deep; mkdir host/one; echo y >host/one/file
    rm -r busy/a; echo z >busy/a; rm busy/a; rm -r busy/d
done
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host's, to be changed."""
    (tmp_path / "host/one").mkdir(parents=True)
    for name in ("one/file", "one/other", "two"):
        (tmp_path / "host" / name).write_text(f"{name}\n")
    return tmp_path


@pytest.fixture
def box(sb: Sandboxes, host: Path) -> Iterator[str]:
    """The name of a sandbox that changes what is in `host` all the time."""
    run = sb.start("--name", "box", "-q", "-w", str(host), "--", "bash", "-c", UNREST)
    stdout_until(run, b"ready\n")
    yield "box"
    assert run.poll() is None
    tell(run, "\n")
    run.communicate(timeout=PATIENCE)


def output(sb: Sandboxes, *words: str) -> bytes:
    """What a command writes, which must succeed and say nothing else."""
    done = subprocess.run(
        [SB, *words], env=sb.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (0, b"") == (done.returncode, done.stderr)
    return done.stdout


def is_listing(host: Path, data: bytes) -> bool:
    """Whether this is what was changed, as JSON, with what stays the same among it."""
    return f"{host}/busy/kept" in [each["path"] for each in json.loads(data)["changes"]]


def is_archive(host: Path, data: bytes) -> bool:
    """Whether this is a whole archive of it."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        kept = archive.extractfile(f"{host}/busy/kept"[1:])
        return kept is not None and kept.read() == b"kept\n"


@pytest.mark.parametrize(
    ("words", "is_right"),
    [
        (("diff", "--json"), is_listing),
        (("diff", "--patch"), lambda host, data: b"+kept" in data),
        (("diff", "--stat"), lambda host, data: b"/busy/kept" in data),
        (("export",), is_archive),
    ],
)
def test_looking_at_it(
    sb: Sandboxes, host: Path, box: str, count: Count, words: tuple[str, ...], is_right: Callable[[Path, bytes], bool]
) -> None:
    """What is there while it is looked at is listed or written, and what is gone in the next moment isn't missed."""
    for _ in range(count(8, 200)):
        assert is_right(host, output(sb, *words, box))


def test_copying_out_of_it(
    sb: Sandboxes, host: Path, box: str, tmp_path_factory: pytest.TempPathFactory, count: Count
) -> None:
    """A directory is copied with what is in it by then."""
    for number in range(count(8, 200)):
        target = tmp_path_factory.mktemp("copies") / f"{number}"
        assert b"" == output(sb, "cp", f"{box}:{host}", str(target))
        assert "kept\n" == (target / "busy/kept").read_text()
        subprocess.run(["rm", "-r", target], check=True)
    assert "one/other\n" == (host / "host/one/other").read_text()
