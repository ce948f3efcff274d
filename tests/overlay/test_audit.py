"""The stream of records: what is in it, and that it makes nobody wait."""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
import resource
from typing import TYPE_CHECKING, Any

import pytest

from fuse_overlay.audit import Record, Stream, line
from fuse_overlay.config import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.overlay.conftest import Mounted

RECORD = Record(1_700_000_000_123_456_789, "open", b"/a", 0, 7, b"cat", mode="r")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds a page, and reads without waiting."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)


def read_all(reader: int) -> bytes:
    """What can be read from a pipe now."""
    data = b""
    try:
        while piece := os.read(reader, 1 << 16):
            data += piece
    except BlockingIOError:
        pass
    return data


def parsed(data: bytes) -> list[dict[str, Any]]:
    """Lines of JSON as objects."""
    return [json.loads(each) for each in data.splitlines()]


def records(mounted: Mounted, script: str) -> list[dict[str, Any]]:
    """What is recorded while a script runs in a mount."""
    log = mounted.base / "audit"
    mounted.run(script, options=(f"--audit={log}",))
    return parsed(log.read_bytes())


def test_a_record_is_a_line_of_json() -> None:
    """Times are RFC 3339, results errno names; what isn't UTF-8 is in base64, and no line break breaks a line."""
    expected = {"time": "2023-11-14T22:13:20.123456Z", "op": "open", "path": "/a", "mode": "r"}
    assert {**expected, "result": "ok", "pid": 7, "comm": "cat"} == json.loads(line(RECORD))
    odd = line(RECORD._replace(path=b"/\xff\n", to="/ä\n".encode(), error=errno.EROFS, comm=b"\xff\n"))
    assert 1 == odd.count(b"\n")
    found = json.loads(odd)
    assert (b"/\xff\n", "/ä\n", "EROFS") == (base64.b64decode(found["path_b64"]), found["to"], found["result"])


def test_every_operation(mounted: Mounted) -> None:
    """What a shell does is recorded in its order, with the names of before, by pid and program."""
    (mounted.lower / "old").write_bytes(b"old")
    found = records(
        mounted,
        "cat old >new; mkdir d; mv new d/n; ln d/n d/m; ln -s x l; mkfifo p; chmod 600 old; chown 0 old; touch old; "
        "truncate -s 1 old; setfattr -n user.a -v b old; setfattr -x user.a old; ls d; rm d/m d/n; rmdir d; "
        "(! rmdir p)",
    )
    kept = [each for each in found if each["op"] not in ("opendir", "utimens")]
    opened = next(each for each in kept if each["op"] == "open")
    assert ("cat", "r", "/old") == (opened["comm"], opened["mode"], opened["path"])
    assert [
        ("create", "/new"), ("open", "/old"), ("mkdir", "/d"), ("rename", "/new"), ("link", "/d/n"), ("symlink", "/l"),
        ("mknod", "/p"), ("chmod", "/old"), ("chown", "/old"), ("open", "/old"), ("open", "/old"),
        ("truncate", "/old"), ("setxattr", "/old"), ("removexattr", "/old"), ("unlink", "/d/m"), ("unlink", "/d/n"),
        ("rmdir", "/d"),
    ] == [(each["op"], each["path"]) for each in kept]  # fmt: skip
    assert ["/d/n", "/d/m"] == [each["to"] for each in kept if "to" in each]
    assert {each["op"] for each in found} <= set(OPERATIONS)
    assert {"/d"} <= {each["path"] for each in found if each["op"] == "opendir"}
    assert "utimens" in {each["op"] for each in found}


def test_pids_are_the_hosts(mounted: Mounted) -> None:
    """A record names the process as it is seen outside of its PID namespace."""
    (mounted.lower / "f").write_bytes(b"")
    found = records(mounted, "unshare -p --fork sh -c 'exec <f; test $$ = 1'; echo $BASHPID >pid")
    opened = [each for each in found if (each["op"], each["path"]) == ("open", "/f")]
    assert 1 == len(opened)
    assert 1 < opened[0]["pid"]
    assert int((mounted.upper / "pid").read_text()) != opened[0]["pid"]


def test_what_is_refused_is_recorded(mounted: Mounted) -> None:
    """A hidden file that is looked up, and a write beyond the limit; other files that aren't there are not."""
    (mounted.lower / "secret").write_bytes(b"s")
    log = mounted.base / "audit"
    script = "(! cat secret missing); head -c 4096 /dev/zero >full; sync full; (! touch more)"
    options = (f"--audit={log}", "--bytes-max=4096")
    mounted.run(script, live=True, hidden=(mounted.lower / "secret",), options=options)
    refused = [each for each in parsed(log.read_bytes()) if each["result"] != "ok"]
    expected = [("lookup", "/secret", "ENOENT", "cat"), ("create", "/more", "EDQUOT", "touch")]
    assert expected == [(each["op"], each["path"], each["result"], each["comm"]) for each in refused]


def test_an_open_for_neither_reading_nor_writing(mounted: Mounted) -> None:
    """open(2)'s access mode 3, which asks for both rights and gives neither, is recorded as one for both."""
    script = "touch f; python3 -c 'import os; os.open(\"f\", 3)'; cat f"
    opened = [each["mode"] for each in records(mounted, script) if each["op"] == "open"]
    assert ["rw", "r"] == opened[-2:]


def test_nobody_waits_for_a_reader(pipe: tuple[int, int]) -> None:
    """When a pipe is full, a mebibyte waits and the rest is dropped; a line says how much when there is room again."""
    reader, writer = pipe
    stream = Stream(writer)
    total = 20_000
    for number in range(total):
        stream.put(RECORD._replace(pid=number))
    data = read_all(reader)
    while True:
        stream.put(RECORD._replace(pid=-1))
        piece = read_all(reader)
        data += piece
        if b"dropped" in data and b'"pid": -1' in data:
            break
    stream.close()
    found = parsed(data + read_all(reader))
    kept = [each["pid"] for each in found if each.get("pid", -1) >= 0]
    assert list(range(len(kept))) == kept  # the first ones, whole, in their order
    assert (1 << 20) * 0.9 < sum(len(json.dumps(each)) for each in found[: len(kept)]) < (1 << 20) * 1.2
    assert total - len(kept) <= sum(each["count"] for each in found if each["op"] == "dropped")


def test_a_reader_that_goes(pipe: tuple[int, int]) -> None:
    """Without a reader there are no records, and no error."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = Stream(writer)
    stream.put(RECORD)
    stream.put(RECORD)
    stream.close()


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """What can't be written waits, and is written when there is space."""
    log = tmp_path / "log"
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stream = Stream(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = len(line(RECORD))
    try:
        # The second line fits only in part. (Python ignores SIGXFSZ.)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
        stream.put(RECORD)
        stream.put(RECORD)
        assert size + 10 == log.stat().st_size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    stream.put(RECORD)
    stream.close()
    assert line(RECORD) * 3 == log.read_bytes()
