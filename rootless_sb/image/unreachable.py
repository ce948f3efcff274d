"""Why a registry can't be reached, in words."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import httpx

from rootless_sb.errors import SbError
from rootless_sb.image.groups import first_error

if TYPE_CHECKING:
    from collections.abc import Iterator


def unreachable(host: str, error: BaseException) -> SbError:
    """The error of a host that can't be talked to."""
    hint = "is there a network? behind a proxy set https_proxy"
    if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
        hint = f'may it do without a good certificate? [registries] insecure = ["{host}"] in config.toml'
    return SbError(f"cannot reach {host}", reason(error), hint)


def reason(error: BaseException) -> str:
    """The reason in words; httpx' own are those of the libraries beneath it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):  # its errno is a number of OpenSSL's
            return (cause.reason or str(cause)).lower().replace("_", " ")
        if isinstance(cause, OSError) and cause.strerror:
            number = cause.errno or 0  # a failed look-up of a name has its own, below zero
            return os.strerror(number) if number > 0 else cause.strerror
    return str(error) or ("it takes too long" if isinstance(error, httpx.TimeoutException) else type(error).__name__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came of; of a group, which has one for each address of a host, the first."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = first_error(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__
