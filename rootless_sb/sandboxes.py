"""What is on disk of a sandbox: one directory, locked by whoever uses it, removed at its end unless it is kept.

    DIRECTORY/upper   what the sandbox changed      DIRECTORY/root    where the watcher mounts the overlay
    DIRECTORY/work    copy-ups under way            DIRECTORY/stage   where pid 1 prepares /proc, /dev and the like
    DIRECTORY/generated   files in place of the host's, if there are some: see `generated`
    DIRECTORY/state   what is known of it           DIRECTORY/lock    held by supervisor and watcher while they live
    DIRECTORY/restored   under the kernel's overlay, what an image's records say made real (`image.restoring`)
    DIRECTORY/state.lock   held while the state is changed, something is added, and it is decided that it isn't kept

A directory that is being made or removed has a dot before its name: nobody sees one without its state and its lock.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING, TypeVar

from fuse_overlay.tuples import NamedTuple
from rootless_sb import faults, names, paths, state
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import descriptors, files, trees

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_sb.state import State

T = TypeVar("T")

PATIENCE = 2.0  # seconds, for `take`: a look takes a thousandth of one
_DOUBT = 0.2  # seconds, for one that seems to run
_LOOK = 0.01  # seconds between tries
RESTORED = "restored"
_STATE_LOCK = "state.lock"
_PARTS = ("upper", "work", "root", "stage")
# Descriptors that making a sandbox needs, and that its removal would: without them nothing is begun.
_DESCRIPTORS = 6
# Where `sb ps` looks whatever TMPDIR says; sandboxes that lie elsewhere have a symlink here.
_INDEX = "/var/tmp"


class Sandbox(NamedTuple):
    """A sandbox's place on disk.

    `parent` is an open descriptor of the directory that holds `name`, `own` one of the sandbox's, `lock` the one that
    holds its lock. `directory` is its path.
    """

    parent: int
    name: str
    directory: str
    own: int
    lock: int

    def close(self) -> None:
        """Let go of it."""
        for descriptor in (self.parent, self.own, self.lock):
            os.close(descriptor)


def new_id() -> str:
    """A sandbox's id: twelve hexadecimal digits, as docker's short ids."""
    return os.urandom(6).hex()


def is_id(name: str) -> bool:
    """Whether this is how `new_id` names sandboxes."""
    return len(name) == 12 and all(character in "0123456789abcdef" for character in name)


def create(record: State, places: tuple[str, ...], store: str, uid: int) -> Sandbox:
    """Make and lock the directory of a new sandbox: in `store` if it is kept, else in the first of `places` that can be
    written to. Raises SbError; a name that is taken is one.
    """
    if not record.name:
        return _create_somewhere(record, places, store, uid)
    with names.Names(store) as held:
        held.require_free(record.name)
        if record.kept:
            held.point(record.name, f"../{record.identifier}")
        sandbox = _create_somewhere(record, places, store, uid)
        if not record.kept:
            held.point(record.name, sandbox.directory)
    return sandbox


def _create_somewhere(record: State, places: tuple[str, ...], store: str, uid: int) -> Sandbox:
    if record.kept:
        with Doing(f"cannot keep a sandbox in {store}", "set SB_DATA_HOME to a directory on another disk"):
            os.makedirs(store, 0o700, exist_ok=True)
            return _create_in(os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), store, record)
    refusals: list[SbError] = []
    for place in places:
        try:
            parent, base = _open_base(place, uid)
        except SbError as error:
            refusals.append(error)
            continue
        try:
            with Doing(f"cannot make a sandbox in {place}"):
                sandbox = _create_in(parent, base, record)
        except SbError as error:
            refusals.append(error)
            with Doing(f"cannot remove {base}/.{record.identifier}"):
                trees.remove_if_there(parent, f".{record.identifier}")
            os.close(parent)
            continue
        _add_to_index(sandbox, uid)
        return sandbox
    hint = next((each.hint for each in refusals if each.hint), "set TMPDIR to a directory that you can write to")
    raise SbError("; ".join(map(str, refusals)), hint=hint)


def _create_in(parent: int, path: str, record: State) -> Sandbox:
    """Make it under a hidden name, lock it, and only then let others see it. Raises OSError."""
    descriptors.require(_DESCRIPTORS)
    identifier, hidden = record.identifier, f".{record.identifier}"
    os.mkdir(hidden, 0o700, dir_fd=parent)
    faults.point("directory-made")
    own = _open_directory(parent, hidden)
    lock = files.lock(own, "lock", wait=True)
    assert lock is not None
    for part in _PARTS:
        os.mkdir(part, 0o755, dir_fd=own)
    os.close(os.open(_STATE_LOCK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=own))
    files.write_atomically(own, "state", state.encode(record), durable=record.kept)
    faults.point("state-written")
    os.rename(hidden, identifier, src_dir_fd=parent, dst_dir_fd=parent)
    faults.point("directory-named")
    return Sandbox(parent, identifier, f"{path}/{identifier}", own, lock)


def take(directory: str, patience: float = 0.0) -> Sandbox | None:
    """Lock a sandbox that is there; None if somebody else holds it or it is gone. Raises OSError.

    `patience`: seconds to wait for whoever only has a look at one that has ended.
    """
    path, _, name = directory.rpartition("/")
    try:
        parent = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        own = _open_directory(parent, name)
    except (FileNotFoundError, NotADirectoryError):
        os.close(parent)
        return None
    lock = _lock_within(own, patience)
    if lock is None or os.fstat(own).st_nlink == 0:  # removed meanwhile
        for descriptor in (parent, own, lock):
            if descriptor is not None:
                os.close(descriptor)
        return None
    return Sandbox(parent, name, directory, own, lock)


def _lock_within(own: int, patience: float) -> int | None:
    begin = time.monotonic()
    while (lock := files.lock(own, "lock", wait=False)) is None:
        # Of one that was lost while it ran, the state says that it runs, too.
        if time.monotonic() - begin >= (min(patience, _DOUBT) if _seems_in_use(own) else patience):
            return None
        time.sleep(_LOOK)
    return lock


def _seems_in_use(own: int) -> bool:
    try:
        return state.decode(files.read(own, "state")).status in (state.CREATED, state.RUNNING)
    except OSError:  # being removed, or another version's
        return True


def holder(directory: str) -> str:
    """Who is at work on a sandbox, in words. Raises OSError."""
    own = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        pid = files.holder(own, "lock")
    finally:
        os.close(own)
    return f"process {pid} is at work on it" if pid else "another sb is at work on it"


def read(own: int) -> State:
    """A sandbox's state as it is now; `own` is a descriptor of its directory. Raises OSError."""
    found = state.decode(files.read(own, "state"))
    return found.seen(locked=files.is_locked(own, "lock"))


def is_kept(own: int) -> bool:
    """Whether a sandbox stays at its end. Raises OSError."""
    try:
        return read(own).kept
    except FileNotFoundError:  # its removal has begun
        return False


def while_there(own: int, act: Callable[[State], T]) -> T:
    """Do something in a sandbox's directory, given its state, which nobody else changes meanwhile; what that returns.

    Raises OSError; ENOENT if the sandbox was removed, or is about to be: then nobody else may write there.
    """
    lock = files.lock(own, _STATE_LOCK, wait=True, make=False)
    try:
        found = state.decode(files.read(own, "state"))
        if found.status == state.REMOVING:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return act(found)
    finally:
        if lock is not None:
            os.close(lock)


def update(own: int, change: Callable[[State], State]) -> State:
    """Change a sandbox's state as `change` says; the new one is returned. Raises OSError as `while_there` does."""

    def write(found: State) -> State:
        changed = change(found)
        files.write_atomically(own, "state", state.encode(changed), durable=changed.kept)
        return changed

    return while_there(own, write)


def keep(own: int, name: str) -> State | None:
    """Have a running sandbox kept, by `name` if that isn't empty; None if it is being removed. Raises OSError."""
    try:
        return update(own, lambda old: old._replace(kept=True, name=name or old.name))
    except FileNotFoundError:
        return None


def settle(sandbox: Sandbox, *, discard: bool) -> bool:
    """Decide for good whether a sandbox that has ended stays: if it is kept, unless `discard`. Whether it does.

    One that doesn't is marked, so that nobody has it kept, or writes to it, from here on. Raises OSError.
    """

    def decide(found: State) -> bool:
        stays = found.kept and not discard
        if not stays:
            marked = found._replace(status=state.REMOVING, kept=False)
            files.write_atomically(sandbox.own, "state", state.encode(marked), durable=False)
        return stays

    return while_there(sandbox.own, decide)


def remove(sandbox: Sandbox, uid: int) -> trees.Removed:
    """Remove a sandbox's directory and let go of it; what was in its upper is returned. Raises OSError."""
    hidden = f".{sandbox.name.lstrip('.')}"
    try:
        if sandbox.name != hidden:
            os.rename(sandbox.name, hidden, src_dir_fd=sandbox.parent, dst_dir_fd=sandbox.parent)
        faults.point("removal-begun")
        forget(sandbox.name, uid)
        changed = trees.remove_if_there(sandbox.own, "upper")
        faults.point("layer-removed")
        trees.remove_others(sandbox.own, "lock")
    finally:
        os.close(sandbox.lock)  # before it is removed: `trees.remove_tree` says why
        os.close(sandbox.own)
    trees.remove_if_there(sandbox.parent, hidden)  # somebody may have finished it as soon as the lock was free
    os.close(sandbox.parent)
    return changed


def remove_wherever(places: tuple[str, ...], identifier: str, uid: int) -> None:
    """Remove the directory of a sandbox, in whichever of `places` it was made, if it was. Raises OSError."""
    for parent in own_bases(places, uid):
        for name in (identifier, f".{identifier}"):
            try:
                trees.remove_tree(parent, name)
            except (FileNotFoundError, NotADirectoryError):  # it isn't in this one, or there is but a symlink to it
                continue
        os.close(parent)
    forget(identifier, uid)


def own_bases(places: tuple[str, ...], uid: int) -> list[int]:
    """Descriptors of all directories of this user's sandboxes in `places`."""
    found = (_open_own(f"{place}/{name}", uid) for place in places for name in paths.base_names(uid))
    return [descriptor for descriptor in found if descriptor is not None]


def _add_to_index(sandbox: Sandbox, uid: int) -> None:
    """Have a sandbox found that lies where only its own TMPDIR says."""
    if sandbox.directory.startswith(f"{_INDEX}/sb-{uid}"):
        return
    try:
        base, _ = _open_base(_INDEX, uid)
    except SbError:  # then it is found with that TMPDIR only
        return
    os.symlink(sandbox.directory, sandbox.name, dir_fd=base)
    os.close(base)


def open_index(uid: int) -> int:
    """A descriptor of the user's directory that is the same for all of this machine's sandboxes. Raises SbError."""
    return _open_base(_INDEX, uid)[0]


def forget(name: str, uid: int) -> None:
    """Remove the symlink by which a sandbox is found that lies elsewhere, if there is one. Raises OSError."""
    for base in own_bases((_INDEX,), uid):
        try:
            if stat.S_ISLNK(os.stat(name, dir_fd=base, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=base)
        except FileNotFoundError:  # it isn't in this one
            pass
        os.close(base)


def _open_base(place: str, uid: int) -> tuple[int, str]:
    """The user's own directory in `place`, made if need be: its descriptor and its path. Raises SbError.

    `place` may be anybody's to write to (/var/tmp), so a directory of that name is only used if it is this user's and
    closed to others; else the next name is tried.
    """
    with Doing(f"cannot make a sandbox in {place}"):
        for name in paths.base_names(uid):
            path = f"{place}/{name}"
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                pass
            descriptor = _open_own(path, uid)
            if descriptor is not None:
                return descriptor, path
    raise SbError(f"cannot make a sandbox in {place}", f"{place}/sb-{uid} belongs to somebody else")


def _open_own(path: str, uid: int) -> int | None:
    """A descriptor of the directory `path`, if it is this user's and closed to others, else None. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, NotADirectoryError):  # somebody else's, or a symlink (open(2))
        return None
    status = os.fstat(descriptor)
    if status.st_uid == uid and stat.S_IMODE(status.st_mode) & 0o077 == 0:
        return descriptor
    os.close(descriptor)
    return None


def _open_directory(parent: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
