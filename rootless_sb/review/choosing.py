"""Which changes are brought to the host, of those that were judged. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.errors import SbError, did_you_mean
from rootless_sb.review.changes import chosen, without
from rootless_sb.ui.changes import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rootless_sb.review.assessment import Verdict
    from rootless_sb.review.changes import Change

# --conflicts
FAIL, HOST, SANDBOX = "fail", "host", "sandbox"

_NAMED = 10  # how many paths an error names at most


class RefusedError(SbError):
    """Nothing may be written; `details` says of which changes and why, a line each."""

    def __init__(self, word: str, reasons: Sequence[tuple[Change, str]], why: str, hint: str) -> None:
        super().__init__(f"cannot apply {len(reasons)} of the changes", why, hint)
        self.details = [f"{word}: {shown(change.path)}: {reason}" for change, reason in reasons[:_NAMED]]
        if len(reasons) > _NAMED:
            self.details.append(f"and {len(reasons) - _NAMED} more")


class Wish(NamedTuple):
    """What whoever applies has said: what to do about conflicts, and whether risky changes are taken unasked."""

    conflicts: str = FAIL
    allow_risky: bool = False


def at_paths(changes: Sequence[Change], paths: Iterable[bytes]) -> list[Change]:
    """The changes at these paths, all if none is given. Raises SbError for a path at which nothing has changed."""
    wanted = list(paths)
    if not wanted:
        return list(changes)
    for path in wanted:
        if not chosen(changes, [path]):
            near = did_you_mean(shown(path), [shown(each.path) for each in changes])
            raise SbError(f"nothing has changed at {shown(path)}", hint=near or "sb diff NAME lists what has")
    return chosen(changes, wanted)


def choose(verdicts: Sequence[Verdict], wish: Wish, ask: Callable[[Verdict], bool] | None) -> list[Verdict]:
    """The changes to bring to the host. `ask` is asked for each risky one; None: there is nobody to ask.

    Raises RefusedError where nothing may be written: a conflict, something that only root could do, something hidden
    in the way, a risk that nobody has agreed to.
    """
    skipped = [each for each in verdicts if each.conflict and wish.conflicts == HOST]
    left = _without(verdicts, skipped)
    if clashing := [(each.change, each.conflict) for each in left if each.conflict and wish.conflicts == FAIL]:
        hint = "--conflicts host leaves these out, --conflicts sandbox overwrites what the host has"
        raise RefusedError("conflict", clashing, "the host has changed since the sandbox saw it", hint)
    if hindered := [(each.change, each.obstacle) for each in left if each.obstacle]:
        hint = "name the paths that you want: sb apply NAME PATH …"
        raise RefusedError("not yours", hindered, "only root could", hint)
    if covered := [(each.change, each.hidden) for each in left if each.hidden]:
        hint = "name the paths that you want; sb run --show PATH shows what is hidden by default"
        raise RefusedError("hidden", covered, "what the sandbox couldn't see would be lost", hint)
    risky = [each for each in left if each.risk] if not wish.allow_risky else []
    if risky and ask is None:
        reasons = [(each.change, each.risk) for each in risky]
        hint = "--allow-risky takes these too; or name the paths that you want"
        raise RefusedError("risky", reasons, "what runs by itself is asked for", hint)
    declined = [each for each in risky if ask is not None and not ask(each)]
    return _without(left, declined)


def _without(verdicts: Sequence[Verdict], left_out: Sequence[Verdict]) -> list[Verdict]:
    if not left_out:
        return list(verdicts)
    kept = {each.path for each in without([each.change for each in verdicts], [each.change for each in left_out])}
    return [each for each in verdicts if each.change.path in kept]
