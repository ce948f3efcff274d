"""Runs seccomp programs: classic BPF as the kernel does (Documentation/networking/filter.rst, net/core/filter.c)."""

from __future__ import annotations

import struct
from typing import NamedTuple

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP, _IF_EQUAL, _IF_GREATER, _IF_GREATER_OR_EQUAL, _IF_ANY = 0x05, 0x15, 0x25, 0x35, 0x45
_LONGEST = 4096


class InvalidProgramError(ValueError):
    """The kernel wouldn't take it."""


class Call(NamedTuple):
    """A system call: struct seccomp_data of <linux/seccomp.h>, but for the instruction pointer."""

    number: int
    architecture: int
    arguments: tuple[int, ...] = (0,) * 6

    def data(self) -> bytes:
        """The structure."""
        return struct.pack("<IIQ6Q", self.number & 0xFFFFFFFF, self.architecture, 0, *self.arguments)


def instructions(program: bytes) -> list[tuple[int, int, int, int]]:
    """The program's instructions, if the kernel would take it: code, jump if true, jump if false, operand."""
    found = list(struct.iter_unpack("=HBBI", program))
    if not 0 < len(found) <= _LONGEST or found[-1][0] != _RETURN:
        raise InvalidProgramError("no program of this length, or none that ends with a return")
    for place, (code, if_true, if_false, operand) in enumerate(found):
        if code in (_IF_EQUAL, _IF_GREATER, _IF_GREATER_OR_EQUAL, _IF_ANY):
            if place + 1 + max(if_true, if_false) >= len(found):
                raise InvalidProgramError(f"a jump at {place} leaves the program")
        elif code == _JUMP:
            if place + 1 + operand >= len(found):
                raise InvalidProgramError(f"a jump at {place} leaves the program")
        elif code == _LOAD:
            if operand % 4 or operand > 60:
                raise InvalidProgramError(f"a load at {place} leaves the data")
        elif code not in (_AND, _RETURN):
            raise InvalidProgramError(f"an instruction {code:#x} that filters have not")
    return found


def run(program: bytes, call: Call) -> int:
    """What the program says of a call."""
    code = instructions(program)
    data = call.data()
    accumulator = place = 0
    while True:
        kind, if_true, if_false, operand = code[place]
        place += 1
        if kind == _RETURN:
            return operand
        if kind == _LOAD:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif kind == _AND:
            accumulator &= operand
        elif kind == _JUMP:
            place += operand
        else:
            holds = {
                _IF_EQUAL: accumulator == operand,
                _IF_GREATER: accumulator > operand,
                _IF_GREATER_OR_EQUAL: accumulator >= operand,
                _IF_ANY: bool(accumulator & operand),
            }[kind]
            place += if_true if holds else if_false
