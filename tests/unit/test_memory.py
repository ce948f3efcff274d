"""How often a sandbox's memory is looked at."""

from __future__ import annotations

from rootless_sb import memory

MOUNTINFO = r"""
22 1 0:21 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
23 22 0:22 / /dev/pts rw - devpts devpts rw
24 1 0:23 / /a\040b rw - tmpfs none rw
25 1 0:20 /hosts /etc/hosts rw shared:1 - tmpfs tmpfs rw
""".strip()
SEGMENTS = """
       key      shmid perms       size  cpid  lpid nattch   uid   gid        rss       swap
         0          0   600       4096     1     1      0     0     0       4096          0
         0          1   600       8192     1     1      0     0     0       8192          0
""".strip("\n")


def test_the_less_is_left_the_sooner() -> None:
    """Nothing is used up before the next look, as fast as memory can be filled; and none is asked all day."""
    assert 5.0 == memory.pause(100_000_000_000, 0.0)
    assert 1.0 == memory.pause(2_000_000_000, 0.0)
    assert 0.1 == memory.pause(0, 0.0)


def test_looking_is_not_to_be_noticed() -> None:
    """What takes long is done seldom."""
    assert 20.0 == memory.pause(0, 1.0)


def test_file_systems_in_memory() -> None:
    """Those of a mount namespace by their devices, and where they are, blanks and all."""
    assert [("0:21", "/dev"), ("0:23", "/a b"), ("0:20", "/etc/hosts")] == memory.scratches(MOUNTINFO)


def test_shared_memory() -> None:
    """The segments' pages are added up; the machine has a sum of all."""
    assert 12288 == memory.segments(SEGMENTS)
    assert 0 == memory.segments("")
    assert 8192 == memory.shared_memory("Cached: 1 kB\nShmem:        8 kB\n")
