"""The assembler: whatever the policy, the program is one that the kernel takes, and decides as the policy says."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from rootless_sb.security import bpf
from rootless_sb.security.bpf import Comparison, Decision, Policy, Rule
from rootless_sb.security.system_calls import X32_BIT
from tests.unit.bpf_evaluator import Call, run

if TYPE_CHECKING:
    from collections.abc import Callable

OURS, FOREIGN = 0xC000003E, 0x40000003
HIGHEST = 460
COMPARE: dict[str, Callable[[int, int], bool]] = {
    bpf.EQUAL: operator.eq,
    bpf.UNEQUAL: operator.ne,
    bpf.LESS: operator.lt,
    bpf.LESS_OR_EQUAL: operator.le,
    bpf.GREATER: operator.gt,
    bpf.GREATER_OR_EQUAL: operator.ge,
}
# Values whose halves are often equal, or next to each other.
HALF = some.sampled_from((0, 1, 2, 0x5412, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF))
WORD = some.builds(lambda high, low: high << 32 | low, HALF, HALF) | some.integers(0, 2**64 - 1)
ACTION = some.sampled_from((bpf.ALLOW, bpf.KILL, bpf.TRAP, bpf.LOG)) | some.integers(1, 40).map(bpf.ERRNO.__or__)
COMPARISON = some.builds(
    Comparison, some.integers(0, 5), some.sampled_from((*COMPARE, bpf.MASKED_EQUAL)), WORD, mask=WORD
)
RULE = some.builds(Rule, ACTION, some.lists(COMPARISON, min_size=1, max_size=3).map(tuple))
DECISION = some.builds(Decision, ACTION, some.lists(RULE, max_size=3).map(tuple))
POLICY = some.builds(
    Policy,
    architecture=some.just(OURS),
    decisions=some.dictionaries(some.integers(0, HIGHEST), DECISION, max_size=60),
    default=some.builds(Decision, ACTION, some.just(())),
    highest=some.just(HIGHEST),
    unknown=some.builds(Decision, ACTION, some.just(())),
)


def holds(condition: Comparison, arguments: tuple[int, ...]) -> bool:
    """What a condition means."""
    value = arguments[condition.argument]
    if condition.operator == bpf.MASKED_EQUAL:
        return value & condition.mask == condition.value
    return COMPARE[condition.operator](value, condition.value)


def expected(policy: Policy, call: Call) -> int:
    """What a policy means."""
    if call.architecture != policy.architecture:
        return bpf.KILL
    if call.number == 0xFFFFFFFF:
        return bpf.ALLOW
    if call.number >= X32_BIT:
        return bpf.KILL
    otherwise = policy.default if call.number <= policy.highest else policy.unknown
    decision = policy.decisions.get(call.number, otherwise)
    for rule in decision.rules:
        if all(holds(condition, call.arguments) for condition in rule.conditions):
            return rule.action
    return decision.action


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # which say how busy the machine is
@given(POLICY, some.lists(some.tuples(WORD, WORD, WORD, WORD, WORD, WORD), min_size=1, max_size=4), some.data())
def test_a_program_does_what_its_policy_says(
    policy: Policy, arguments: list[tuple[int, ...]], data: some.DataObject
) -> None:
    """For any policy, number, architecture and arguments, and arguments that are the very values it compares with."""
    program = bpf.assemble(policy)
    numbers = some.sampled_from([0, HIGHEST, HIGHEST + 1, X32_BIT - 1, X32_BIT, 0xFFFFFFFF, *policy.decisions])
    for each in arguments:
        number = data.draw(numbers | some.integers(0, 2**32 - 1))
        rules = policy.decisions.get(number, policy.default).rules
        for condition in (one for rule in rules for one in rule.conditions):
            near = list(each)
            near[condition.argument] = condition.value
            call = Call(number, OURS, tuple(near))
            assert expected(policy, call) == run(program, call)
        for architecture in (OURS, FOREIGN):
            call = Call(number, architecture, each)
            assert expected(policy, call) == run(program, call)


def test_jumps_over_many_instructions() -> None:
    """A program with hundreds of rules, whose halves lie farther apart than a conditional jump reaches."""
    rules = (Rule(bpf.ERRNO | 1, (Comparison(0, bpf.EQUAL, 7),)),)
    decisions = {number: Decision(bpf.ALLOW, rules) for number in range(0, HIGHEST, 2)}
    policy = Policy(OURS, decisions, Decision(bpf.LOG), HIGHEST, Decision(bpf.TRAP))
    program = bpf.assemble(policy)
    for number in range(HIGHEST + 3):
        for first in (7, 8):
            call = Call(number, OURS, (first, 0, 0, 0, 0, 0))
            assert expected(policy, call) == run(program, call)


def test_what_is_too_long_is_refused() -> None:
    """More instructions than the kernel takes are an error, not a program."""
    rules = tuple(Rule(bpf.KILL, (Comparison(0, bpf.EQUAL, value),)) for value in range(3))
    decisions = {number: Decision(bpf.ERRNO | number, rules) for number in range(HIGHEST)}
    with pytest.raises(bpf.TooLongError):
        bpf.assemble(Policy(OURS, decisions, Decision(bpf.LOG), HIGHEST, Decision(bpf.LOG)))
