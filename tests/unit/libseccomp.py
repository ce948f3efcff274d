"""The programs that libseccomp makes of the same rules: seccomp_rule_add(3), seccomp_export_bpf(3)."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# enum scmp_compare of <seccomp.h>.
OPERATORS = {
    name: number
    for number, name in enumerate(
        ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"), start=1
    )
}  # fmt: skip


class _Argument(ctypes.Structure):  # struct scmp_arg_cmp
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class RefusedError(Exception):
    """libseccomp doesn't take these rules."""


def load() -> ctypes.CDLL | None:
    """The library, if it is installed."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def compile_rules(
    library: ctypes.CDLL, default: int, rules: Iterable[tuple[int, int, list[dict[str, object]]]]
) -> bytes:
    """A program for this machine: `rules` are actions, numbers of calls, and conditions as in an OCI profile."""
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    try:
        for action, number, conditions in rules:
            array = (_Argument * len(conditions))(*(_argument(each) for each in conditions))
            result = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), number, len(conditions), array if conditions else None
            )
            if result != 0:
                raise RefusedError(os.strerror(-result))
        memory = os.memfd_create("program")
        if library.seccomp_export_bpf(context, memory) != 0:
            raise RefusedError("no program")
        size = os.lseek(memory, 0, os.SEEK_CUR)
        program = os.pread(memory, size, 0)
        os.close(memory)
        return program
    finally:
        library.seccomp_release(context)


def _argument(condition: dict[str, object]) -> _Argument:
    name = str(condition["op"]).removeprefix("SCMP_CMP_")
    return _Argument(condition["index"], OPERATORS[name], condition["value"], condition.get("valueTwo", 0))
