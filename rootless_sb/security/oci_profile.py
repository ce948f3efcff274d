"""Seccomp profiles as files: the JSON of the OCI runtime specification (config-linux.md, "Seccomp"), and what docker
and podman add to it (`includes`, `excludes`, `defaultErrnoRet`). Pure.

Whatever a profile says, calls of foreign architectures are killed, and where its default is an error, calls newer than
sb's table are ENOSYS, so that libraries fall back (runc and crun do the same).
"""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, TypeGuard

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError
from rootless_sb.security import bpf
from rootless_sb.security.bpf import Comparison, Decision, Policy, Rule

if TYPE_CHECKING:
    from rootless_sb.security.system_calls import Machine

_ACTIONS = {
    "SCMP_ACT_KILL": 0,  # of the thread
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": bpf.KILL,
    "SCMP_ACT_TRAP": bpf.TRAP,
    "SCMP_ACT_ERRNO": bpf.ERRNO,
    "SCMP_ACT_TRACE": bpf.TRACE,
    "SCMP_ACT_LOG": bpf.LOG,
    "SCMP_ACT_ALLOW": bpf.ALLOW,
}
_WITH_VALUE = (bpf.ERRNO, bpf.TRACE)  # the actions that carry 16 bits, EPERM unless the profile says otherwise
_LARGEST_ERROR = 4095  # MAX_ERRNO, <linux/err.h>
_OPERATORS = {
    "SCMP_CMP_NE": bpf.UNEQUAL,
    "SCMP_CMP_LT": bpf.LESS,
    "SCMP_CMP_LE": bpf.LESS_OR_EQUAL,
    "SCMP_CMP_EQ": bpf.EQUAL,
    "SCMP_CMP_GE": bpf.GREATER_OR_EQUAL,
    "SCMP_CMP_GT": bpf.GREATER,
    "SCMP_CMP_MASKED_EQ": bpf.MASKED_EQUAL,
}
_ARGUMENTS = 6
# What Go, and so docker's profiles, call the machines.
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


class Circumstances(NamedTuple):
    """What `includes` and `excludes` ask about: machine, capabilities without CAP_, the kernel's release."""

    machine: Machine
    capabilities: tuple[str, ...]
    release: str


class _MalformedError(ValueError):
    """A part of the profile isn't what the specification says; the message says which."""


def program(path: str, text: str, facts: Circumstances) -> bytes:
    """The filter of the profile `text`, read from `path`, as the kernel takes it. Raises SbError."""
    try:
        return bpf.assemble(policy(text, facts))
    except (_MalformedError, bpf.TooLongError) as error:
        raise SbError(f"--seccomp {path}", str(error), "a profile in the OCI JSON format, as docker takes it") from None


def policy(text: str, facts: Circumstances) -> Policy:
    """The profile as a policy. Raises ValueError with what is wrong with it."""
    try:
        profile = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _MalformedError(f"not JSON: {error}") from None
    if not isinstance(profile, dict):
        raise _MalformedError("not a JSON object")
    default = Decision(_action(profile, "defaultAction", "defaultErrnoRet"))
    newer = Decision(bpf.ERRNO | errno.ENOSYS) if default.action & ~0xFFFF == bpf.ERRNO else default
    numbers = facts.machine.numbers
    return Policy(
        architecture=facts.machine.architecture,
        decisions=_decisions(_objects(profile, "syscalls"), default, facts),
        default=default,
        highest=max(numbers.values()),
        unknown=newer,
    )


def _objects(part: dict[str, object], key: str) -> list[dict[str, object]]:
    """A list of objects; one that isn't there, or null, is empty."""
    found = part.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _MalformedError(f'"{key}" is not a list of objects')
    return found


def _decisions(entries: list[dict[str, object]], default: Decision, facts: Circumstances) -> dict[int, Decision]:
    """By call number. A rule without conditions counts for the whole call, whatever others say (libseccomp's rule)."""
    whole: dict[int, Decision] = {}
    conditional: dict[int, Decision] = {}
    for entry in entries:
        if not _applies(entry, facts):
            continue
        action = _action(entry, "action", "errnoRet")
        rules = tuple(Rule(action, conditions) for conditions in _alternatives(entry))
        for name in _names(entry):
            number = facts.machine.numbers.get(name)
            if number is None:  # of another machine, or newer than our table
                continue
            if not rules:
                whole.setdefault(number, Decision(action))
            else:
                known = conditional.get(number, default)
                conditional[number] = known._replace(rules=known.rules + rules)
    return {**conditional, **whole}


def _action(part: dict[str, object], key: str, value_key: str) -> int:
    name = part.get(key)
    action = _ACTIONS.get(name) if isinstance(name, str) else None
    if action is None:
        raise _MalformedError(f"{key} {json.dumps(name)} is none that sb knows")
    if action not in _WITH_VALUE:
        return action
    value = part.get(value_key)
    if value is None:
        value = errno.EPERM
    if not _is_number(value) or not 0 <= value <= _LARGEST_ERROR:
        raise _MalformedError(f"{value_key} {json.dumps(value)} is not the number of an error")
    return action | value


def _names(entry: dict[str, object]) -> list[str]:
    names = entry.get("names", [entry["name"]] if "name" in entry else None)  # "name": docker's first format
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _MalformedError('"names" is not a list of texts')
    return names


def _alternatives(entry: dict[str, object]) -> list[tuple[Comparison, ...]]:
    """The conditions of an entry: all must hold; or, where two are about one argument, any of them (runc's rule)."""
    comparisons = tuple(_comparison(each) for each in _objects(entry, "args"))
    if not comparisons:
        return []
    if len({each.argument for each in comparisons}) < len(comparisons):
        return [(each,) for each in comparisons]
    return [comparisons]


def _comparison(argument: dict[str, object]) -> Comparison:
    index = argument.get("index")
    name = argument.get("op")
    operator = _OPERATORS.get(name) if isinstance(name, str) else None
    if operator is None:
        raise _MalformedError(f"op {json.dumps(name)} is none that sb knows")
    if not _is_number(index) or not 0 <= index < _ARGUMENTS:
        raise _MalformedError(f"index {json.dumps(index)} is not an argument's, 0 to 5")
    value, second = _value(argument, "value"), _value(argument, "valueTwo")
    if operator == bpf.MASKED_EQUAL:
        return Comparison(index, operator, second & value, mask=value)  # libseccomp looks at no other bits
    return Comparison(index, operator, value)


def _value(argument: dict[str, object], key: str) -> int:
    value = argument.get(key, 0)
    if not _is_number(value) or not 0 <= value < 1 << 64:
        raise _MalformedError(f"{key} {json.dumps(value)} is not a number of 64 bits")
    return value


def _applies(entry: dict[str, object], facts: Circumstances) -> bool:
    """Whether `includes` and `excludes`, where they are there, let the entry count."""
    included, excluded = (_filter(entry, key) for key in ("includes", "excludes"))
    own = _GO_NAMES[facts.machine.name]
    if included["arches"] and own not in included["arches"]:
        return False
    if not {name.removeprefix("CAP_") for name in included["caps"]} <= set(facts.capabilities):
        return False
    if any(_version(facts.release) < _version(wanted) for wanted in included["minKernel"]):
        return False
    if own in excluded["arches"] or {name.removeprefix("CAP_") for name in excluded["caps"]} & set(facts.capabilities):
        return False
    return not any(_version(facts.release) >= _version(wanted) for wanted in excluded["minKernel"])


def _filter(entry: dict[str, object], key: str) -> dict[str, list[str]]:
    part = entry.get(key) or {}
    if not isinstance(part, dict):
        raise _MalformedError(f'"{key}" is not an object')
    found = {name: part.get(name) or [] for name in ("arches", "caps")}
    found["minKernel"] = [part["minKernel"]] if part.get("minKernel") else []
    if not all(isinstance(each, list) and all(isinstance(word, str) for word in each) for each in found.values()):
        raise _MalformedError(f'"{key}" does not hold lists of texts')
    return found


def _version(release: str) -> tuple[int, int]:
    """The first two numbers of a kernel's release."""
    parts = (*release.partition("-")[0].split("."), "0", "0")[:2]
    if not all(part.isdecimal() for part in parts):
        raise _MalformedError(f"{release} is not a version of the kernel")
    return int(parts[0]), int(parts[1])


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
