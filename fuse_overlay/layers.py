"""Layers: one directory tree each, reached by descriptors only.

Every access is a directory's descriptor and one name, with no symbolic link followed: nothing that the sandbox or the
host's users do to a path meanwhile leads the server out of a layer.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from fuse_overlay import indexes, merge, ownership, whiteout
from fuse_overlay.descent import open_directory, walk
from fuse_overlay.errors import OverlayError, failure
from fuse_overlay.gate import READ, SEARCH, Gate
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_overlay.config import Config
    from fuse_overlay.inodes import Node

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# "It isn't there" when looking at a tree that may change while we look.
ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.EACCES, errno.EPERM})


# As many directories a single request may need at once: those of two names, in the upper and where they came from.
IN_USE = 32

# A real file: an open descriptor (not O_PATH), or a path to it as `at` makes them.
Real: TypeAlias = "int | bytes"


class OpenDirectory(NamedTuple):
    """A directory held open (O_PATH), and which one it is."""

    fd: int
    dev: int
    ino: int


class Layer:
    """One directory tree.

    `number`: its place in Config.lowers, -1 for the upper. `marks`: whiteouts and opaque marks count. `dot_marks`:
    there may be marks of the `.wh.` kind. `live`: it may change underneath. `records`: there may be ownership records.
    `xattrs`: its files and directories can have user.* attributes. `indexed`: there may be indexes.
    `foreign_records`: there may be records of fuse-overlayfs' own kind. `file_whiteouts`: some whiteouts may be regular
    files. `mark_names`: the names of marks are no names of files, whether there may be such marks or not. `real`: ACLs
    and capabilities are what the kernel has of them, not data. `gate`: who weighs what the server may read, besides the
    kernel.
    """

    __slots__ = (
        "dot_marks", "file_whiteouts", "foreign_records", "gate", "indexed", "live", "mark_names", "marks", "number",
        "path", "real", "records", "root", "writable", "xattrs",
    )  # fmt: skip

    def __init__(self, number: int, path: bytes, *, marks: bool, live: bool) -> None:
        self.number = number
        self.path = path
        self.marks = marks
        self.live = live
        self.writable = number < 0
        option = "upperdir" if self.writable else "lowerdir"
        try:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            st = os.fstat(fd)
            # An O_PATH descriptor says nothing about what may be done with the directory.
            os.close(os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd))
        except OSError as error:
            raise OverlayError(f"cannot open {option} {os.fsdecode(path)}: {error.strerror}") from None
        if self.writable and not os.access(at_fd(fd), os.W_OK):
            raise OverlayError(f"cannot write to {option} {os.fsdecode(path)}")
        self.root = OpenDirectory(fd, st.st_dev, st.st_ino)
        self.xattrs = not marks or _has_xattrs(at(fd, b"."))
        self.indexed = marks and indexes.exists(fd)
        at_root = names_of_xattrs(at(fd, b".")) if marks else []
        self.foreign_records = ownership.FOREIGN_XATTR in at_root
        self.records = marks and (self.indexed or self.foreign_records or ownership.XATTR in at_root)
        self.file_whiteouts = marks and read_xattr(at(fd, b"."), whiteout.OPAQUE_XATTR) == whiteout.FILES_VALUE
        # Only what we write is in a fresh upper, and it is known by then which marks that will be.
        self.dot_marks = self.mark_names = marks
        self.gate: Gate | None = None
        self.real = not self.writable

    @property
    def steady(self) -> bool:
        """Whether nobody changes its files, anybody may know of all, and what is shown of one is in the file itself, as
        far as that can have a record. (Where files can't, on the file system of the layer's root, an index counts for
        all, also for what is on another one.)
        """
        beside = self.foreign_records or self.file_whiteouts or (self.indexed and not self.xattrs)
        return not (self.writable or self.live or self.gate is not None or beside)

    def trust_the_kernel(self) -> None:
        """Take this upper for one that the kernel's overlay has written: whoever used that could make all else."""
        self.records = self.indexed = self.foreign_records = self.file_whiteouts = self.dot_marks = False
        self.mark_names = False
        self.real = True

    def stat(self, fd: int, name: bytes) -> os.stat_result | None:
        """What `name` is in the directory `fd`; None if nothing, or nothing that we may know of."""
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in ABSENT and not self.writable:
                return None
            raise

    def is_whiteout(self, fd: int, name: bytes, st: os.stat_result) -> bool:
        """Whether `name` in the directory `fd`, whose stat result is `st`, is a whiteout."""
        if whiteout.is_whiteout(st):
            return True
        if not self.file_whiteouts or not whiteout.may_be_whiteout(st):
            return False
        if read_xattr(at(fd, name), whiteout.FILE_XATTR) is None:
            return False
        return read_xattr(at(fd, b"."), whiteout.OPAQUE_XATTR) == whiteout.FILES_VALUE

    def has_mark(self, fd: int, name: bytes) -> bool:
        """Whether a `.wh.` file takes `name` away from the layers below."""
        if not self.dot_marks:
            return False
        try:
            return self.stat(fd, whiteout.mark_of(name)) is not None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return False
            raise

    def is_opaque(self, fd: int, name: bytes) -> bool:
        """Whether the directory `name` hides what the layers below have under its name."""
        place = at(fd, name)
        if self.dot_marks and os.access(place + b"/" + whiteout.OPAQUE_FILE, os.F_OK, follow_symlinks=False):
            return True
        if self.writable and not self.dot_marks:
            return read_xattr(place, whiteout.OPAQUE_XATTR) == whiteout.OPAQUE_VALUE
        return any(read_xattr(place, xattr) == whiteout.OPAQUE_VALUE for xattr in whiteout.OPAQUE_XATTRS)


def open_layers(config: Config) -> list[Layer]:
    """Open all layers, topmost first. Raises OverlayError naming the one that can't be opened."""
    layers = [Layer(-1, config.upper, marks=True, live=False)] if config.upper is not None else []
    if layers and config.real_ids:
        layers[0].trust_the_kernel()
    layers += [
        Layer(number, lower.path, marks=lower.layer, live=lower.live) for number, lower in enumerate(config.lowers)
    ]
    if not layers:
        raise OverlayError("no lower directory")
    if not config.supplementary_groups:
        for layer in layers:
            layer.gate = None if layer.marks else Gate()
    return layers


def at(fd: int, name: bytes) -> bytes:
    """A path to `name` in the directory `fd`, for the calls that take no directory descriptor (all of xattr(7))."""
    return b"/proc/self/fd/%d/%s" % (fd, name)


def at_fd(fd: int) -> bytes:
    """A path to the file that is open as `fd`."""
    return b"/proc/self/fd/%d" % fd


def read_xattr(file: Real, name: bytes) -> bytes | None:
    """The value of an extended attribute, None if the file has none or can't have any."""
    try:
        return os.getxattr(file, name, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP) or error.errno in ABSENT:
            return None
        raise


def names_of_xattrs(file: Real) -> list[bytes]:
    """The names of all extended attributes of a file; none where the file can't have any."""
    try:
        names = os.listxattr(file, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP or error.errno in ABSENT:
            return []
        raise
    return [os.fsencode(name) for name in names]


def _has_xattrs(directory: bytes) -> bool:
    """Whether the file system of a directory knows user.* attributes."""
    try:
        os.getxattr(directory, ownership.XATTR)
    except OSError as error:
        return error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS)
    return True


def is_opaque_self(layer: Layer) -> bool:
    """Whether a layer's root hides all layers below."""
    return layer.marks and layer.is_opaque(layer.root.fd, b".")


def open_for_listing(fd: int, gate: Gate | None = None) -> int:
    """Open a directory, that is open as `fd` (O_PATH), so that it can be listed. Raises OSError; EACCES by `gate` too.

    Its access time stays if that is possible: for its owner (O_NOATIME, open(2)).
    """
    if gate is not None:
        gate.require(fd, READ)
    try:
        return os.open(b".", _LIST | os.O_NOATIME, dir_fd=fd)
    except PermissionError:
        return os.open(b".", _LIST, dir_fd=fd)


def list_directory(fd: int, layer: Layer) -> merge.Scan:
    """What is in an open directory of a layer, with the whiteouts told apart if marks count there."""
    names: list[bytes] = []
    whiteouts: set[bytes] = set()
    with os.scandir(fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            names.append(name)
            if not layer.marks or entry.is_dir(follow_symlinks=False) or entry.is_symlink():
                continue
            if entry.is_file(follow_symlinks=False) and not layer.file_whiteouts:
                continue
            if layer.is_whiteout(fd, name, entry.stat(follow_symlinks=False)):
                whiteouts.add(name)
    return merge.Scan(names, whiteouts, layer.marks, layer.mark_names)


def scan(directory: Callable[[], int], layer: Layer) -> merge.Scan:
    """What a layer has in a directory, whose descriptor (O_PATH) this returns. Raises OSError."""
    try:
        listed = open_for_listing(directory(), layer.gate)
    except OSError as error:
        if layer.writable or error.errno not in ABSENT:
            raise  # no descriptors, say: a directory that isn't empty must not be taken for an empty one
        return merge.Scan([], set(), layer.marks, layer.mark_names)  # what we may not list, appears empty
    try:
        return list_directory(listed, layer)
    finally:
        os.close(listed)


class Budget(NamedTuple):
    """How many descriptors may be open: of directories, and of directories and files together."""

    directories: int
    together: int


class Directories:
    """Open descriptors of directories: a bounded number of those that were used last, by node and layer.

    They give way to open files. Those used last of all stay in any case: a request may be using them.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._files = 0
        self._open: OrderedDict[tuple[Node, int], OpenDirectory] = OrderedDict()

    def get(self, node: Node, layer: Layer) -> OpenDirectory:
        """The directory of `node` in `layer`. Raises OSError when it can't be opened."""
        found = layer.root if node.parent is None else self._held(node, layer)
        if layer.gate is not None:
            layer.gate.require(found.fd, SEARCH)
        return found

    def _held(self, node: Node, layer: Layer) -> OpenDirectory:
        key = (node, layer.number)
        found = self._open.get(key)
        if found is not None:
            self._open.move_to_end(key)
            return found
        fd = self._reach(node, layer)
        st = os.fstat(fd)
        found = OpenDirectory(fd, st.st_dev, st.st_ino)
        self._open[key] = found
        self._fit()
        return found

    def adopt(self, node: Node, layer: Layer, opened: OpenDirectory) -> None:
        """Hold a directory that somebody else has opened, if it isn't held, and is known there."""
        key = (node, layer.number)
        if node.parent is None or layer not in node.dirs or key in self._open:
            os.close(opened.fd)
            return
        self._open[key] = opened
        self._fit()

    def held(self, node: Node, layer: Layer) -> int:
        """The descriptor held for this directory; -1: there is none."""
        found = layer.root if node.parent is None else self._open.get((node, layer.number))
        return -1 if found is None else found.fd

    def verify(self, node: Node, layer: Layer, dev: int, ino: int) -> None:
        """Close the descriptor held for this directory if it isn't this one (any more)."""
        found = self._open.get((node, layer.number))
        if found is not None and (found.dev, found.ino) != (dev, ino):
            self.close(node, layer)

    def close(self, node: Node, layer: Layer) -> None:
        """Close the descriptor held for this directory, if there is one."""
        found = self._open.pop((node, layer.number), None)
        if found is not None:
            _close(node, found)

    def make_room(self, files: int) -> bool:
        """See that so many files can be open beside the directories. False: there are too many."""
        self._files = files
        self._fit()
        return files + SHORTCUT.stubs_open + IN_USE <= self._budget.together

    def close_all(self) -> None:
        """Close them all."""
        self._shrink(0)

    def _fit(self) -> None:
        left = self._budget.together - self._files - SHORTCUT.stubs_open
        if len(self._open) > IN_USE:
            self._shrink(max(IN_USE, min(self._budget.directories, left)))
        SHORTCUT.leave_room(left - max(len(self._open), IN_USE))

    def _shrink(self, count: int) -> None:
        """Close the descriptors used longest ago until `count` are left."""
        while len(self._open) > count:
            (node, _), oldest = self._open.popitem(last=False)
            _close(node, oldest)

    def _reach(self, node: Node, layer: Layer) -> int:
        """Open a directory from the nearest one above it that is open."""
        names: list[bytes] = []
        start = layer.root
        for above in node.lineage():
            held = layer.root if above.parent is None else self._open.get((above, layer.number))
            if held is not None:
                start = held
                break
            names.append(above.name)
        names.reverse()
        if (gate := layer.gate) is None:
            return open_directory(start.fd, names)
        return walk(start.fd, names, lambda fd: gate.require(fd, SEARCH))


def _close(node: Node, opened: OpenDirectory) -> None:
    SHORTCUT.hide(node.ino)
    SHORTCUT.let_go(opened.fd)
    os.close(opened.fd)


def open_regular(name: bytes, flags: int, dir_fd: int, layer: Layer, *, own: bool) -> int:
    """Open a regular file of a layer.

    In a live one somebody else may put something else there meanwhile. To open a FIFO or a device would wait or have
    effects, so the file is held by O_PATH first, and only opened when it is a regular one.
    `own`: the file is the server's user's, so reading can leave its access time alone (O_NOATIME, open(2)).
    Raises OSError; ESTALE when it isn't a regular file, EACCES when the layer's gate doesn't let us.
    """
    if own:
        flags |= os.O_NOATIME
    if not layer.live and layer.gate is None:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise failure(errno.ESTALE)
        if layer.gate is not None:
            layer.gate.require(held, READ)
        return os.open(at_fd(held), flags | os.O_CLOEXEC)
    finally:
        os.close(held)
