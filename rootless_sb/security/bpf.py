"""Seccomp filters as classic BPF programs: seccomp(2), Documentation/networking/filter.rst. Pure.

A policy is data: an action for each range of call numbers, some of which depend on arguments. The program finds the
range by binary search, so that hundreds of rules cost a call about ten instructions.
"""

from __future__ import annotations

import struct

from fuse_overlay.tuples import NamedTuple
from rootless_sb.security.system_calls import X32_BIT

# Actions: <linux/seccomp.h>. The low 16 bits of ERRNO are the error.
KILL = 0x80000000  # the whole process
TRAP = 0x00030000
ERRNO = 0x00050000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

# How an argument, 64 bits wide and unsigned, is compared with a value.
EQUAL = "=="
UNEQUAL = "!="
LESS = "<"
LESS_OR_EQUAL = "<="
GREATER = ">"
GREATER_OR_EQUAL = ">="
MASKED_EQUAL = "&=="  # the bits of the mask are those of the value

# Instructions: <linux/filter.h>.
_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_IF_EQUAL, _IF_GREATER, _IF_GREATER_OR_EQUAL = 0x15, 0x25, 0x35
_FARTHEST = 255  # instructions that a conditional jump can pass over
INSTRUCTION = 8  # bytes
_LONGEST = 4096  # instructions of a program (BPF_MAXINSNS)

# Offsets in struct seccomp_data: <linux/seccomp.h>.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

_LAST = 0xFFFFFFFF  # the call number -1: a tracer has taken the call over (ptrace(2)), the kernel does nothing
_LOW = 0xFFFFFFFF

Code = tuple[bytes, ...]


class Comparison(NamedTuple):
    """A condition: the argument of this number, from 0, compared with `value` as one of the words above says."""

    argument: int
    operator: str
    value: int
    mask: int = 0


class Rule(NamedTuple):
    """What is done with a call all of whose `conditions` hold."""

    action: int
    conditions: tuple[Comparison, ...]


class Decision(NamedTuple):
    """What is done with a call: as the first of the rules says that fits, else `action`."""

    action: int
    rules: tuple[Rule, ...] = ()


class Policy(NamedTuple):
    """What is done with all calls of one architecture (AUDIT_ARCH_*); those of any other are killed.

    `decisions`: by call number. `default` is for numbers without one; `unknown`, for those above `highest`.
    """

    architecture: int
    decisions: dict[int, Decision]
    default: Decision
    highest: int
    unknown: Decision


class TooLongError(ValueError):
    """The program would be longer than the kernel takes."""


def assemble(policy: Policy) -> bytes:
    """The program: an array of struct sock_filter. Raises TooLongError."""
    start = (
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_IF_EQUAL, policy.architecture, 1, 0),
        _instruction(_RETURN, KILL),
        _instruction(_LOAD, _NUMBER),
    )
    program = start + _search(_intervals(policy))
    if len(program) > _LONGEST:
        raise TooLongError(f"{len(program)} instructions, the kernel takes {_LONGEST}")
    return b"".join(program)


def _intervals(policy: Policy) -> list[tuple[int, Decision]]:
    """The policy as a sorted list of the first numbers of intervals, and what is done there, up to the next one."""
    allowed, killed = Decision(ALLOW), Decision(KILL)
    points = {0: policy.default, policy.highest + 1: policy.unknown, X32_BIT: killed, _LAST: allowed}
    for number in policy.decisions:
        points.setdefault(number + 1, policy.default if number < policy.highest else policy.unknown)
    points.update(policy.decisions)
    merged: list[tuple[int, Decision]] = []
    for number in sorted(points):
        if not merged or merged[-1][1] != points[number]:
            merged.append((number, points[number]))
    return merged


def _search(intervals: list[tuple[int, Decision]]) -> Code:
    """Code that finds the interval of the number in the accumulator and decides; it never runs past its end."""
    if len(intervals) == 1:
        return _decide(intervals[0][1])
    middle = len(intervals) // 2
    below, above = _search(intervals[:middle]), _search(intervals[middle:])
    first = intervals[middle][0]
    if len(below) <= _FARTHEST:
        return (_instruction(_IF_GREATER_OR_EQUAL, first, len(below), 0), *below, *above)
    over = _instruction(_JUMP, len(below))
    return (_instruction(_IF_GREATER_OR_EQUAL, first, 0, 1), over, *below, *above)


def _decide(decision: Decision) -> Code:
    rules = (_apply(rule) for rule in decision.rules)
    return (*(instruction for rule in rules for instruction in rule), _instruction(_RETURN, decision.action))


def _apply(rule: Rule) -> Code:
    """Code that returns the rule's action if its conditions hold, and else runs past its end."""
    code: Code = (_instruction(_RETURN, rule.action),)
    for condition in reversed(rule.conditions):
        code = _compare(condition, len(code)) + code
    return code


def _compare(condition: Comparison, rest: int) -> Code:
    """Code that runs past its end if the condition holds, and else past `rest` instructions more."""
    operator, value = condition.operator, condition.value
    if operator == MASKED_EQUAL:
        return _compare_masked(condition, rest)
    if operator == UNEQUAL:  # past `rest` when both halves are equal
        return _halves(condition.argument, _unequal(value, rest))
    if operator == EQUAL:
        return _halves(condition.argument, _equal(value, rest))
    if operator in (GREATER, GREATER_OR_EQUAL):
        last = _IF_GREATER if operator == GREATER else _IF_GREATER_OR_EQUAL
        return _halves(condition.argument, _greater(value, last, 0, rest))
    last = _IF_GREATER_OR_EQUAL if operator == LESS else _IF_GREATER  # the opposite holds: past `rest`
    return _halves(condition.argument, _greater(value, last, rest, 0))


def _halves(index: int, tests: tuple[Code, Code]) -> Code:
    """Load and test the high half of an argument, then the low half."""
    high, low = tests
    return (_load(index, high=True), *high, _load(index, high=False), *low)


def _equal(value: int, rest: int) -> tuple[Code, Code]:
    high = _instruction(_IF_EQUAL, value >> 32, 0, rest + 2)
    return (high,), (_instruction(_IF_EQUAL, value & _LOW, 0, rest),)


def _unequal(value: int, rest: int) -> tuple[Code, Code]:
    high = _instruction(_IF_EQUAL, value >> 32, 0, 2)
    return (high,), (_instruction(_IF_EQUAL, value & _LOW, rest, 0),)


def _greater(value: int, last: int, if_true: int, if_false: int) -> tuple[Code, Code]:
    """Tests for greater than `value`; `last` compares the low halves, when the high ones are equal."""
    high = (
        _instruction(_IF_GREATER, value >> 32, if_true + 3, 0),
        _instruction(_IF_EQUAL, value >> 32, 0, if_false + 2),
    )
    return high, (_instruction(last, value & _LOW, if_true, if_false),)


def _compare_masked(condition: Comparison, rest: int) -> Code:
    """The halves of which the mask has no bits are never looked at."""
    code: Code = ()
    for high in (False, True):
        mask = condition.mask >> 32 if high else condition.mask & _LOW
        value = condition.value >> 32 if high else condition.value & _LOW
        if mask or value:
            half = (
                _load(condition.argument, high=high),
                _instruction(_AND, mask),
                _instruction(_IF_EQUAL, value, 0, rest + len(code)),
            )
            code = half + code
    return code


def _load(index: int, *, high: bool) -> bytes:
    """Load half of an argument; all machines that sb knows are little endian."""
    return _instruction(_LOAD, _FIRST_ARGUMENT + 8 * index + (4 if high else 0))


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One struct sock_filter: what a jump passes over, counted in instructions, if its test holds and if not."""
    if max(if_true, if_false) > _FARTHEST:
        raise TooLongError("a jump over more than 255 instructions")
    return struct.pack("=HBBI", code, if_true, if_false, operand)
