"""The server process: an overlay behind a /dev/fuse descriptor. Importing this module is what takes long."""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

from fuse_overlay import loop
from fuse_overlay.errors import OverlayError
from fuse_overlay.handshake import Handshake
from fuse_overlay.libfuse import pyfuse3
from fuse_overlay.operations import FuseOperations
from fuse_overlay.overlay import Overlay
from fuse_overlay.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_overlay.audit import Stream
    from fuse_overlay.config import Config

_FUSE = "/dev/fuse"


def serve(
    config: Config,
    fuse_fd: int,
    audit_fd: int = -1,
    refused: Callable[[], None] | None = None,
    looked_up: Callable[[bytes], None] | None = None,
) -> None:
    """Serve an already mounted /dev/fuse descriptor until its mount is gone.

    `audit_fd`: where the records that the configuration asks for are written, as lines of JSON.
    `refused` is called once, when a client gets an error because of the upper's limits; `looked_up` with each of the
    configuration's `told` paths that somebody looks up, once.
    All other copies of it in this process are closed: a copy that outlives the server lets its clients wait for ever.
    Raises OverlayError, and OSError when reading requests fails.
    """
    # What is typed at a terminal is meant for the programs inside.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for fd in _fuse_descriptors():
        if fd != fuse_fd:
            os.close(fd)
    overlay = Overlay(config)
    overlay.tree.quota.refused = refused
    # libfuse takes a mountpoint of this form for a descriptor, and mounts nothing (libfuse, lib/mount.c and
    # fuse_lowlevel.c, "fuse_mnt_parse_fuse_fd").
    records = _records(audit_fd) if config.audited and audit_fd >= 0 else None
    refusals = Refusals(config.told, looked_up) if config.told and looked_up is not None else None
    handshake = start(_operations(overlay, config, records, refusals), f"/dev/fd/{fuse_fd}", set())
    loop.run(handshake)
    pyfuse3.close(unmount=False)
    overlay.close()
    if records is not None:
        records.close()


def _records(fd: int) -> Stream:
    from fuse_overlay.audit import Stream  # seldom needed, so it needn't be waited for at each start

    return Stream(fd)


def _operations(
    overlay: Overlay, config: Config, records: Stream | None, refusals: Refusals | None
) -> FuseOperations:
    if records is None:
        return FuseOperations(overlay, refusals)
    from fuse_overlay.audited import AuditedOperations

    return AuditedOperations(overlay, frozenset(config.audited), records.put, refusals)


def start(operations: FuseOperations, mountpoint: str, options: set[str]) -> Handshake | None:
    """Connect an overlay's operations with libfuse, which mounts unless the mountpoint is a descriptor.

    Raises OverlayError.

    Returns what `loop.run` has to finish; None where libfuse has to do by itself.
    """
    try:
        pyfuse3.init(operations, mountpoint, options)
    except RuntimeError as error:
        raise OverlayError(f"cannot serve {mountpoint}: {error}") from None
    # All that it logs is replies that nobody waits for any more, when the mount goes in the middle of a request.
    pyfuse3.log.disabled = True  # type: ignore[attr-defined]  # not in its type stubs
    # What is there by now stays: the collector needn't look at it again.
    gc.freeze()
    descriptors = _fuse_descriptors()
    try:
        return Handshake(descriptors[0]) if len(descriptors) == 1 else None
    except OSError:
        return None


def _fuse_descriptors() -> list[int]:
    """The descriptors of /dev/fuse in this process."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}") == _FUSE:
                found.append(int(entry))
        except FileNotFoundError:
            continue  # the descriptor by which this directory was read
    return found
