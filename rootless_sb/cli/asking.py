"""Asking whoever sits at the terminal before something is done for good."""

from __future__ import annotations

import sys

from rootless_sb.errors import SbError


def agreed(what: str, hint: str) -> bool:
    """Whether the person agrees that `what` is removed. Raises SbError, with what to type, if nobody is there."""
    if not sys.stdin.isatty():
        raise SbError(f"{what} would be removed for good", hint=hint)
    return confirmed(f"remove {what}?")


def confirmed(question: str) -> bool:
    """Whether the answer to a question is yes; no answer is none."""
    sys.stderr.write(f"sb: {question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
