"""Records of what was done: lines of JSON, and the bounded stream that takes them to a descriptor."""

from __future__ import annotations

import base64
import errno
import json
import os
import select
import time
from collections import deque

from fuse_overlay.tuples import NamedTuple

# A pipe that polls as writable takes so many bytes without making the writer wait (PIPE_BUF, pipe(7)).
_PIECE = 4096

# What may wait for a reader, in bytes. Records that come beyond are dropped, and counted.
_WAITING_MAX = 1 << 20

# How long the end of the server waits for a reader, in seconds.
_PATIENCE = 1.0

_DROPPED = "dropped"


class Record(NamedTuple):
    """One operation.

    `time`: nanoseconds since 1970. `op`: one of config.OPERATIONS. `path`: absolute, in the merged tree; `to`: the
    other one of a rename or a link. `error`: the errno that it failed with, 0 if it didn't. `pid`, `comm`: the process
    that asked, as the host knows it. `mode`: of an open file "r", "w" or "rw".
    """

    time: int
    op: str
    path: bytes
    error: int
    pid: int
    comm: bytes
    to: bytes = b""
    mode: str = ""


def line(record: Record) -> bytes:
    """A record as a line of JSON. A path that isn't UTF-8 is given in base64, as `path_b64` (`to_b64`)."""
    result = "ok" if record.error == 0 else errno.errorcode.get(record.error, str(record.error))
    fields: dict[str, object] = {"time": _timestamp(record.time), "op": record.op, **_text("path", record.path)}
    if record.to:
        fields |= _text("to", record.to)
    if record.mode:
        fields["mode"] = record.mode
    fields |= {"result": result, "pid": record.pid, "comm": record.comm.decode(errors="backslashreplace")}
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


class Stream:
    """Writes records to a descriptor, as lines, and never waits for whoever reads it.

    A pipe that is full and a disk that has no space make lines wait, up to a mebibyte of them; then they are dropped.
    When there is room again, a line says how many were. `close` gives the reader a second for what waits.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def put(self, record: Record) -> None:
        """Write a record, or have it wait."""
        text = line(record)
        if self._dropped and self._size <= _WAITING_MAX // 2:
            self._append(_lost(self._dropped))
            self._dropped = 0
        if self._dropped or self._size + len(text) > _WAITING_MAX:
            self._dropped += 1
        else:
            self._append(text)
        self.flush()

    def flush(self, patience: float = 0.0) -> None:
        """Write what waits, as far as that is taken; wait so many seconds for the reader at most, altogether."""
        end = time.monotonic() + patience
        while self._waiting and self._poll.poll(max(0.0, end - time.monotonic()) * 1000 if patience else 0):
            piece = self._waiting[0][:_PIECE]
            try:
                written = os.write(self._fd, piece)
            except OSError as error:
                if error.errno == errno.EPIPE:
                    self._waiting.clear()  # nobody will ever read it
                    self._size = 0
                return
            self._size -= written
            if written == len(self._waiting[0]):
                self._waiting.popleft()
            else:
                self._waiting[0] = self._waiting[0][written:]

    def close(self) -> None:
        """Write what can be written, and close the descriptor."""
        if self._dropped:
            self._append(_lost(self._dropped))
        self.flush(_PATIENCE)
        os.close(self._fd)

    def _append(self, text: bytes) -> None:
        self._waiting.append(text)
        self._size += len(text)


def _lost(count: int) -> bytes:
    return json.dumps({"time": _timestamp(time.time_ns()), "op": _DROPPED, "count": count}).encode() + b"\n"


def _timestamp(nanoseconds: int) -> str:
    """A time in the form of RFC 3339, in UTC, to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"


def _text(name: str, value: bytes) -> dict[str, object]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_b64": base64.b64encode(value).decode()}
