"""Carries out the steps of a plan: the one interpreter of `steps`. Decides nothing."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rootless_sb import phases, requirements, steps, volumes
from rootless_sb.errors import Doing, SbError
from rootless_sb.kernel import mounts, namespaces, network, terminals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


class Builder:
    """Builds one root. `stage` is the directory to mount the stage on, `root` the overlay's; both are host paths."""

    __slots__ = ("_root", "_stage", "_terminal_opened", "_volumes", "devpts", "proc")

    def __init__(self, stage: str, root: str, terminal_opened: Callable[[int, int], None]) -> None:
        self._stage = stage
        self._root = root
        self._terminal_opened = terminal_opened
        self._volumes: set[int] = set()  # the ids of volumes' mounts
        # Descriptors of the roots of the sandbox's own /proc and /dev/pts, once they are mounted.
        self.proc = self.devpts = -1

    def carry_out(self, step: steps.Step) -> None:
        """Carry out one step. Raises SbError that names it."""
        action: Callable[[Builder, Any], None] = _ACTIONS[type(step)]
        action(self, step)

    def _at(self, place: str) -> str:
        return f"{self._stage}/{place}"

    def _open_root(self) -> int:
        phases.mark_first(phases.STAGE)
        return os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _make_file(self, place: str) -> None:
        os.close(os.open(self._at(place), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))

    def _mount_stage(self, step: steps.MountStage) -> None:
        with Doing("cannot mount a tmpfs", requirements.hint("mounts")):
            mounts.mount("tmpfs", self._stage, "tmpfs", mounts.NOSUID | mounts.NODEV, "mode=0755")

    def _mount_at(self, step: steps.MountAt) -> None:
        with Doing(f"cannot mount /{step.place}", requirements.hint("mounts")):
            mounts.mount(step.kind, self._at(step.place), step.kind, step.flags, step.options)
            if step.kind == "proc":
                self.proc = os.open(self._at(step.place), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            elif step.kind == "devpts":
                self.devpts = os.open(self._at(step.place), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _make_directory(self, step: steps.MakeDirectory) -> None:
        with Doing(f"cannot make /{step.place}"):
            os.mkdir(self._at(step.place), 0o755)

    def _make_symlink(self, step: steps.MakeSymlink) -> None:
        with Doing(f"cannot make /{step.place}"):
            os.symlink(step.text, self._at(step.place))

    def _write_file(self, step: steps.WriteFile) -> None:
        with Doing(f"cannot write {step.place}"), open(self._at(step.place), "wb", buffering=0) as file:
            file.write(step.data)

    def _write_setting(self, step: steps.WriteSetting) -> None:
        with Doing(f"cannot write /{step.place}"):
            try:
                with open(self._at(step.place), "wb", buffering=0) as file:
                    file.write(step.text.encode())
            except FileNotFoundError:  # a kernel built without it
                return

    def _bind_device(self, step: steps.BindDevice) -> None:
        with Doing(f"cannot bind {step.source}"):
            self._make_file(step.place)
            mounts.mount(step.source, self._at(step.place), None, mounts.BIND)
            mounts.make_read_only(self._at(step.place))

    def _bind_host(self, step: steps.BindHost) -> None:
        with Doing(f"cannot bind {step.source}"):
            with _closing(os.open(step.source, os.O_PATH | os.O_CLOEXEC)) as source:
                if _is_within(source, step.own):
                    raise volumes.not_for_sandboxes(step.source)
                if stat.S_ISDIR(os.fstat(source).st_mode):
                    os.mkdir(self._at(step.place), 0o755)
                else:
                    self._make_file(step.place)
                mounts.mount(f"/proc/self/fd/{source}", self._at(step.place), None, mounts.BIND | mounts.REC)
            mounts.restrict(self._at(step.place), read_only=step.read_only)
            with _closing(os.open(self._at(step.place), os.O_PATH | os.O_CLOEXEC)) as volume:
                self._volumes.add(mounts.mount_id(volume))

    def _hold_in_volume(self, step: steps.HoldInVolume) -> None:
        with Doing(f"cannot hold {step.path} in a volume"), self._open_in_volume(step.place, step.path) as place:
            if place is None:
                return
            _hold(place, read_only=step.read_only)
        with self._open_in_volume(step.place, step.path) as held:
            if held is not None:
                self._volumes.add(mounts.mount_id(held))

    @contextmanager
    def _open_in_volume(self, place: str, path: str) -> Iterator[int | None]:
        """A descriptor of what is at a path in a volume, symbolic links not followed; None if nothing is."""
        with _closing(os.open(self._at(place), os.O_PATH | os.O_CLOEXEC)) as volume:
            try:
                found = mounts.open_in_root(volume, path, follow=False)
            except (FileNotFoundError, NotADirectoryError):
                yield None
                return
        with _closing(found):
            yield found

    def _make_read_only(self, step: steps.MakeReadOnly) -> None:
        place = self._at(step.place)
        with Doing(f"cannot make /{step.place} read-only"):
            if os.path.exists(place):
                mounts.mount(place, place, None, mounts.BIND)
                mounts.make_read_only(place)

    def _mask(self, step: steps.Mask) -> None:
        with Doing(f"cannot mask /{step.place}"):
            try:
                found = os.open(self._at(step.place), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return
            with _closing(found) as place:
                source = self._at(step.directory if stat.S_ISDIR(os.fstat(place).st_mode) else step.file)
                mounts.mount(source, f"/proc/self/fd/{place}", None, mounts.BIND)
            mounts.make_read_only(self._at(step.place))

    def _hide_within(self, step: steps.HideWithin) -> None:
        from fuse_overlay.hiding import matches  # only volumes need it

        with Doing(f"cannot hide what is in {step.source}"):
            if not os.path.isdir(self._at(step.place)):
                return
            source = os.path.realpath(step.source)
            with _closing(os.open(self._at(step.place), os.O_PATH | os.O_CLOEXEC)) as volume:
                for path in step.paths:
                    for found in map(os.path.realpath, map(os.fsdecode, matches(os.fsencode(path)))):
                        name = volumes.name_to_cover(found, source, step.apart)
                        if name is not None:
                            self._cover(volume, name)

    def _cover(self, volume: int, name: str) -> None:
        """Mount something empty over a file or directory of a volume, if it is there. Raises OSError."""
        try:
            found = mounts.open_in_root(volume, name)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return  # nothing, or nothing that anybody in the sandbox can reach either
        with _closing(found):
            empty = steps.EMPTY_DIRECTORY if stat.S_ISDIR(os.fstat(found).st_mode) else steps.EMPTY_FILE
            mounts.mount(self._at(empty), f"/proc/self/fd/{found}", None, mounts.BIND)
        with _closing(mounts.open_in_root(volume, name)) as cover:
            mounts.make_read_only(f"/proc/self/fd/{cover}")

    def _set_hostname(self, step: steps.SetHostname) -> None:
        with Doing(f"cannot set the host name {step.name}"):
            namespaces.set_hostname(step.name)

    def _bring_loopback_up(self, step: steps.BringLoopbackUp) -> None:
        with Doing("cannot switch the loopback interface on"):
            network.bring_up("lo")

    def _open_terminal(self, step: steps.OpenTerminal) -> None:
        with Doing("cannot open a terminal in the sandbox"):
            master, slave = terminals.open_pty(self.devpts)
        self._terminal_opened(master, slave)

    def _attach(self, step: steps.Attach) -> None:
        with Doing(f"cannot mount {step.target}"), _closing(self._open_root()) as root:
            name = step.target.lstrip("/")
            # No symlink, though it led nowhere else: `memory` looks for them by these names, and would find nothing.
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                found = os.open(name, flags, dir_fd=root)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=root)
                found = os.open(name, flags, dir_fd=root)
            phases.mark_first(phases.FILES)
            with _closing(found) as target:
                mounts.mount(self._at(step.place), f"/proc/self/fd/{target}", None, mounts.MOVE)

    def _attach_file(self, step: steps.AttachFile) -> None:
        above, _, name = step.target.rpartition("/")
        with (
            Doing(f"cannot mount {step.target}"),
            _closing(self._open_root()) as root,
            _closing(mounts.open_in_root(root, above)) as parent,
        ):
            _require_same_mount(root, parent)
            with _closing(_open_or_make_file(parent, name) if step.make else _open_name(parent, name)) as target:
                mounts.mount(self._at(step.place), f"/proc/self/fd/{target}", None, mounts.BIND)

    def _make_target_directory(self, step: steps.MakeTargetDirectory) -> None:
        with Doing(f"cannot make {step.target}"), _closing(self._open_root()) as root:
            os.close(self._open_or_make(root, step.target, is_directory=True))

    def _attach_volume(self, step: steps.AttachVolume) -> None:
        is_directory = os.path.isdir(self._at(step.place))
        with (
            Doing(f"cannot mount {step.target}"),
            _closing(self._open_root()) as root,
            _closing(self._open_or_make(root, step.target, is_directory=is_directory)) as target,
        ):
            if is_directory != stat.S_ISDIR(os.fstat(target).st_mode):
                kinds = ("a directory", "a file") if is_directory else ("a file", "a directory")
                raise OSError(errno.ENOTDIR, "{} can't go over {}".format(*kinds))
            mounts.mount(self._at(step.place), f"/proc/self/fd/{target}", None, mounts.MOVE)

    def _open_or_make(self, root: int, path: str, *, is_directory: bool) -> int:
        """A descriptor of a place in the sandbox's root, in the overlay or in a volume; in the overlay it is made if
        it isn't there, as a directory or an empty file. Raises OSError.
        """
        above, _, name = path.rpartition("/")
        try:
            target = mounts.open_in_root(root, path)
        except FileNotFoundError:
            with _closing(self._open_or_make(root, above, is_directory=True) if above else os.dup(root)) as parent:
                if mounts.mount_id(parent) in self._volumes:
                    raise OSError(errno.ENOENT, "there is no such place in the volume around it") from None
                _require_same_mount(root, parent)
                if is_directory:
                    os.mkdir(name, 0o755, dir_fd=parent)
                else:
                    os.mknod(name, 0o644, dir_fd=parent)
            target = mounts.open_in_root(root, path)
        if mounts.mount_id(target) not in self._volumes:
            _require_same_mount(root, target)
        return target

    def _make_root_read_only(self, step: steps.MakeRootReadOnly) -> None:
        with Doing("cannot make the root read-only"):
            mounts.make_read_only(self._root)

    def _pivot_root(self, step: steps.PivotRoot) -> None:
        with Doing("cannot enter the sandbox's root"):
            os.chdir(self._root)
            mounts.pivot_root_here()

    def _if_possible(self, step: steps.IfPossible) -> None:
        try:
            self.carry_out(step.step)
        except SbError:  # that is what the step is for
            return


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end, of a step that fails too: pid 1, who builds, lives as long as the sandbox."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_within(found: int, places: Iterable[str]) -> bool:
    """Whether an open file or directory is at or beneath one of these paths, whatever links and mounts led to it."""
    path = os.readlink(f"/proc/self/fd/{found}")
    above = [path[:end] for end, character in enumerate(path) if character == "/" and end]
    return not {*map(_identity, (path, *above))}.isdisjoint({*map(_identity, places)} - {None})


def _identity(path: str) -> tuple[int, int] | None:
    try:
        st = os.stat(path)
    except OSError:  # nothing is there, or nothing that this user can reach
        return None
    return st.st_dev, st.st_ino


def _hold(place: int, *, read_only: bool) -> None:
    """Bind what is open as `place` over itself, with all that is mounted beneath it. Raises OSError."""
    target = f"/proc/self/fd/{place}"
    mounts.mount(target, target, None, mounts.BIND | mounts.REC)
    if read_only and not stat.S_ISLNK(os.fstat(place).st_mode):  # nothing of a link can be changed
        # By the path that it has now: the descriptor is of what lies beneath.
        mounts.restrict(os.readlink(target), read_only=True)


def _open_name(parent: int, name: str) -> int:
    """A descriptor of a name in a directory, of the symlink itself if it is one. Raises OSError."""
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _open_or_make_file(parent: int, name: str) -> int:
    """As `_open_name`; an empty file is made where nothing is. Raises OSError."""
    try:
        return _open_name(parent, name)
    except FileNotFoundError:
        os.mknod(name, 0o644, dir_fd=parent)
        return _open_name(parent, name)


def _require_same_mount(root: int, target: int) -> None:
    """Refuse a place on a mount of ours, to which a symlink in the tree may have led. Raises OSError."""
    if mounts.mount_id(root) != mounts.mount_id(target):
        raise OSError(errno.EXDEV, "it lies in a file system that sb has mounted")


_ACTIONS: dict[type, Callable[[Builder, Any], None]] = {
    steps.MountStage: Builder._mount_stage,
    steps.MountAt: Builder._mount_at,
    steps.MakeDirectory: Builder._make_directory,
    steps.MakeSymlink: Builder._make_symlink,
    steps.WriteFile: Builder._write_file,
    steps.WriteSetting: Builder._write_setting,
    steps.BindDevice: Builder._bind_device,
    steps.BindHost: Builder._bind_host,
    steps.HoldInVolume: Builder._hold_in_volume,
    steps.MakeReadOnly: Builder._make_read_only,
    steps.Mask: Builder._mask,
    steps.HideWithin: Builder._hide_within,
    steps.SetHostname: Builder._set_hostname,
    steps.BringLoopbackUp: Builder._bring_loopback_up,
    steps.OpenTerminal: Builder._open_terminal,
    steps.Attach: Builder._attach,
    steps.AttachFile: Builder._attach_file,
    steps.MakeTargetDirectory: Builder._make_target_directory,
    steps.AttachVolume: Builder._attach_volume,
    steps.MakeRootReadOnly: Builder._make_root_read_only,
    steps.PivotRoot: Builder._pivot_root,
    steps.IfPossible: Builder._if_possible,
}
