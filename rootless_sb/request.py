"""What `sb exec` asks of a running sandbox: a program, and what it is to find at 0, 1, 2 and so on. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuse_overlay.tuples import NamedTuple
from rootless_sb.program import Target
from rootless_sb.protocol import ProtocolError

if TYPE_CHECKING:
    from rootless_sb.relay import Standard


class Request(NamedTuple):
    """A program to run; in `standard`, a number that isn't negative counts the descriptors that are passed along."""

    target: Target
    standard: Standard


def pack(request: Request) -> bytes:
    """The bytes of a request: counts and texts, each ended by a NUL byte, which no argument or variable can hold."""
    wanted = request.target
    texts = [str(len(wanted.arguments)), *wanted.arguments, str(len(wanted.environment))]
    texts += [text for pair in wanted.environment for text in pair]
    texts += [wanted.directory, str(wanted.umask), str(len(wanted.ignored_signals))]
    texts += [str(number) for number in wanted.ignored_signals]
    texts.append(wanted.user)
    texts.append(str(len(request.standard)))
    for number, each in request.standard.items():
        texts += [str(number), "" if each is None else str(each)]
    return "".join(f"{text}\0" for text in texts).encode("utf-8", "surrogateescape")


def unpack(data: bytes) -> Request:
    """The request that `data` holds. Raises ProtocolError."""
    texts = iter(data.decode("utf-8", "surrogateescape").split("\0"))
    try:
        arguments = tuple(next(texts) for _ in range(int(next(texts))))
        environment = tuple((next(texts), next(texts)) for _ in range(int(next(texts))))
        directory, umask = next(texts), int(next(texts))
        ignored = tuple(int(next(texts)) for _ in range(int(next(texts))))
        user = next(texts)
        places = [(int(next(texts)), next(texts)) for _ in range(int(next(texts)))]
        standard = {number: int(text) if text else None for number, text in places}
    except (StopIteration, RuntimeError, ValueError) as error:  # RuntimeError: a generator's StopIteration (PEP 479)
        raise ProtocolError("not a request") from error
    return Request(Target(arguments, environment, directory, umask, ignored, user), standard)
