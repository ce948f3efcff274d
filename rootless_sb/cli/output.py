"""What a command writes for a person: a file that is there when it is whole, or not at all; an archive on stdout."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from rootless_sb.errors import Doing, SbError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def whole_file(path: str) -> Iterator[IO[bytes]]:
    """A file to write, which has its name at the end of the `with`, and nothing is left of it when that fails.

    What is there and no regular file (/dev/null, a FIFO) is written to as it is. Raises SbError for what goes wrong.
    """
    with Doing(f"cannot write {path}"):
        if not _may_be_replaced(path):
            with open(path, "wb") as file:
                yield file
            return
        unfinished = f"{path}.{os.getpid()}.part"
        try:
            with open(unfinished, "xb") as file:
                yield file
            os.rename(unfinished, path)
        except BaseException:
            if os.path.exists(unfinished):
                os.unlink(unfinished)
            raise


@contextmanager
def standard_output(what: str, hint: str) -> Iterator[IO[bytes]]:
    """stdout, for an archive; `what` begins the words for a failure. Raises SbError: for a terminal, with `hint`; and
    BrokenPipeError when who reads it has had enough.
    """
    if os.isatty(1):
        raise SbError("an archive is nothing for a terminal", hint=hint)
    try:
        with Doing(what):
            yield sys.stdout.buffer
    except SbError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise error.__cause__ from None
        raise


def _may_be_replaced(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True
