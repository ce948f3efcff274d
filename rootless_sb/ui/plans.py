"""A plan in words and as JSON, for `--dry-run`. Pure."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootless_sb.plan import Plan
    from rootless_sb.steps import Step


def as_json(plan: Plan) -> str:
    """One JSON document; each step is an object whose `step` names it."""
    decided = {name: _plain(value) for name, value in plan._asdict().items() if name not in ("with_one_id", "barriers")}
    decided["barriers"] = _barriers(plan)
    return json.dumps({"schema": 1, "plan": decided}, indent=2) + "\n"


def as_text(plan: Plan) -> str:
    """A line a fact, then a line a step."""
    lines = [
        f"sandbox   {plan.identifier}, its layer in {plan.places[0]}",
        *(f"uids      {line.inside} is {line.outside} outside, {line.size} of them" for line in plan.id_maps.uids),
        *(f"gids      {line.inside} is {line.outside} outside, {line.size} of them" for line in plan.id_maps.gids),
        *(f"lower     {lower.path.decode(errors='backslashreplace')}" for lower in plan.overlay.lowers),
        *(f"guarded   {each.source}" for each in plan.guarded),
        *(f"stdio     {each.inside} {each.kind}" for each in plan.attachments),
        *(f"step      {_step(step)}" for step in plan.steps),
        *(f"barrier   {name}: {_words(value)}" for name, value in _barriers(plan).items()),
        f"directory {plan.target.directory}",
        f"run       {' '.join(map(repr, plan.target.arguments))}",
    ]
    return "\n".join(lines) + "\n"


def _barriers(plan: Plan) -> dict[str, object]:
    return plan.barriers.described(plan.namespaces)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_words(each)}" for name, each in value.items())
    return " ".join(value) or "nothing" if isinstance(value, tuple) else str(value)


def _step(step: Step) -> str:
    values = ", ".join(f"{name}={value!r}" for name, value in step._asdict().items())
    return f"{type(step).__name__}({values})"


def _plain(value: object) -> object:
    """NamedTuples become objects, bytes text (or `{"b64": …}` where they aren't UTF-8)."""
    if hasattr(value, "_asdict"):
        plain = {name: _plain(each) for name, each in value._asdict().items()}
        return {"step": type(value).__name__, **plain} if type(value).__module__.endswith(".steps") else plain
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    return value
