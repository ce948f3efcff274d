"""What a write takes away from a file: setuid, setgid and capabilities (write(2), capabilities(7)).

With FUSE_HANDLE_KILLPRIV_V2 the kernel leaves that to us; without, it asks for the file's capabilities before each
write. Whoever writes in a user namespace takes setuid away, its root too (setattr_should_drop_suidgid in fs/attr.c asks
for CAP_FSETID over the host).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from fuse_overlay import ownership, xattrs
from fuse_overlay.attributes import carries
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.times import move_ctime

if TYPE_CHECKING:
    from fuse_overlay.inodes import Node
    from fuse_overlay.ownership import Owner
    from fuse_overlay.tree import Tree


class Privileges:
    """Sets owners of upper files, and takes privileges away from them. All methods raise OSError."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def has_capability(self, node: Node) -> bool:
        """Whether whoever executes this file gets capabilities."""
        return self._tree.extended_attribute(node, xattrs.CAPABILITY) is not None

    def set_owner(self, node: Node, owner: Owner) -> None:
        """Let an upper file show another owner."""
        self._tree.records.check(owner)
        file = self._tree.file(node)
        is_recorded = bool(file.places) or carries(file)  # else the record would end with the node
        if is_recorded:
            SHORTCUT.hide(node.ino)
            node.owner = None  # if something fails in the middle of it, what has become of the file is to be read anew
        if node.kind != stat.S_IFLNK:
            os.chmod(file.real, ownership.real_mode(node.kind, owner.mode))
        else:
            move_ctime(file.real)  # it has no mode of its own to set (chmod(2))
        if is_recorded:
            self._tree.records.write(file, owner, node.device)
        node.owner = owner
        self._tree.show(node)
        if node.handles and self.has_setuid(node):
            for fd in node.descriptors:
                SHORTCUT.allow(fd, writing=False)

    def has_setuid(self, node: Node) -> bool:
        """Whether a write takes setuid or setgid away."""
        owner = self._tree.owner(node)
        return ownership.without_privilege(node.kind, owner.mode) != owner.mode

    def revoke_setuid(self, node: Node) -> None:
        """Take away setuid, and setgid where it means the same, from an upper file."""
        owner = self._tree.owner(node)
        self._set_mode(node, owner, ownership.without_privilege(node.kind, owner.mode))

    def obey(self, node: Node) -> None:
        """The kernel says that a write is about to come which takes privilege away from an upper file."""
        if self.has_capability(node):
            self.revoke_capability(node)
            self.revoke_setuid(node)
        else:
            owner = self._tree.owner(node)
            self._set_mode(node, owner, ownership.after_order(node.kind, owner.mode))

    def revoke_capability(self, node: Node) -> None:
        """Take away the capabilities of an upper file."""
        kept = xattrs.kept_as(xattrs.CAPABILITY)
        if node.kind == stat.S_IFREG and kept is not None and self.has_capability(node):
            self._tree.store.change(self._tree.file(node), {kept: None})

    def _set_mode(self, node: Node, owner: Owner, mode: int) -> None:
        if mode != owner.mode:
            self.set_owner(node, owner._replace(mode=mode))
