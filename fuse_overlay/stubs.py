"""Files that only the compiled helper knows (kernel/shortcut_stubs.c), because it has looked them up, or listed the
directory that they are in. Here they get nodes when a request needs one.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from fuse_overlay.inodes import Node
from fuse_overlay.kernel.shortcut import SHORTCUT
from fuse_overlay.layers import ABSENT

if TYPE_CHECKING:
    from fuse_overlay.kernel.shortcut import Stub
    from fuse_overlay.tree import Tree


def adopt(tree: Tree, ino: int) -> Node | None:
    """The node of this number, made of what the helper knows; None if that is nothing. Raises OSError if it can't be
    looked at now, as without descriptors: then the helper still knows it.
    """
    stub = SHORTCUT.stub(ino)
    parent = tree.table.nodes.get(stub.parent) if stub is not None else None
    if stub is None or parent is None:
        return None
    try:
        there = tree.require(parent, stub.name)
    except OSError as error:
        if error.errno not in ABSENT:
            raise
        there = None
    return tree.table.nodes.get(ino) or _lost(tree, ino, stub, parent, there)


def _lost(tree: Tree, ino: int, stub: Stub, parent: Node, there: Node | None) -> Node:
    """The node of this number for a file that isn't there any more, but `there` at best: somebody has changed the
    layer.
    """
    if there is not None:
        tree.table.settle(there)
    node = Node(0, stat.S_IFREG, stub.key, parent, stub.name, parent.source)
    tree.table.add(node, ino)
    tree.table.detach(node)
    node.gone = True
    SHORTCUT.hide(ino)
    return node


def let_list(tree: Tree, node: Node, handle: int) -> None:
    """Let the helper list a directory that was opened, if only one layer has it and that stays as it is."""
    if not tree.is_findable(node) or node.gone:
        return
    try:
        tree.directories.get(node, node.source)
    except OSError:
        return  # whoever reads it is told
    tree.show(node)
    SHORTCUT.let_list(handle, node.ino)
