"""Lower layers that don't answer soon: others don't wait for them, and what is fetched beforehand is never stale."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from fuse_overlay.creation import Caller
from tests.overlay.conftest import Driver
from tests.overlay.foreseen import Foreseen

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.overlay.conftest import Mounted, Stage

FILES = ("read", "opened", "attributes", "appended", "truncated", "moved", "gone", "linked", "mode", "replaced")

# What hangs by itself, and not already in the look-up of a name, has the file open beforehand.
WAITING = """
waiting=(); hang() { "$@" >>$base/said 2>&1 & waiting+=($!); }
exec 10<slow/opened 11<slow/d 12<slow/appended 13<slow/mode 14<slow/attributes 15<slow/replaced
kill -STOP $below
hang cmp slow/read $base/source/read; hang ls slow/d; hang stat slow/attributes; hang readlink slow/link
hang truncate -s 2 slow/truncated; hang mv slow/moved slow/to; hang rm slow/gone; hang mkdir slow/new
hang ln slow/linked slow/other; hang rmdir slow/empty; hang ls /dev/fd/11
hang bash -c 'cmp - $0 <&10' $base/source/opened
hang bash -c 'echo more >>/dev/fd/12'; hang chmod 600 /dev/fd/13
hang getfattr -d /dev/fd/14; hang bash -c 'echo new >/dev/fd/15'
"""
GOING_ON = """
for n in {1..10}; do
    echo $n >fast/new; test "$(<fast/new)" = $n; echo $n >>fast/old
    mv fast/new fast/$n; ls fast >$base/listed; rm fast/$n
done
test "$(wc -l <fast/old)" = 11; cmp fast/large $base/lower/fast/large
"""
AT_LAST = """
kill -0 ${waiting[@]} || { cat $base/said >&2; exit 1; }; echo all waited
kill -CONT $below
for pid in ${waiting[@]}; do wait $pid || echo failed: $pid; done
tail -n 1 slow/appended; cat slow/replaced; wc -l slow/appended
stat -c '%n %s %a %h' slow/{truncated,to,mode,other}; ls slow slow/d
"""


def over_stopped(mounted: Mounted, script: str, *options: str) -> str:
    """Run a script over a lower directory in which `slow` is a FUSE file system: its pid is `$below`."""
    source, slow, fast = mounted.base / "source", mounted.lower / "slow", mounted.lower / "fast"
    for directory in (source / "d" / "in it", source / "empty", slow, fast):
        directory.mkdir(parents=True)
    for name in FILES:
        (source / name).write_text(f"{name}\n" * 50_000)
    (source / "link").symlink_to("nowhere")
    (fast / "old").write_text("old\n")
    (fast / "large").write_bytes(os.urandom(1 << 20))
    begin = f"""
    base={mounted.base}; bindfs -f $base/source $base/lower/slow >$base/below 2>&1 & below=$!
    trap 'kill -CONT $below; umount -l $base/lower/slow; kill $below' EXIT
    until mountpoint -q $base/lower/slow; do kill -0 $below; sleep 0.02; done
    stat slow >/dev/null
    """
    return mounted.run(begin + script, live=True, options=options)


def test_who_does_not_ask_a_stopped_file_system_goes_on(mounted: Mounted) -> None:
    """While a file system below doesn't answer, other files are made, read, changed and removed; once it does, all that
    waited for it ends as it should.
    """
    output = over_stopped(mounted, WAITING + GOING_ON + AT_LAST)
    listed = " ".join(sorted({"d", "link", "new", "other", "to", *FILES} - {"gone", "moved"}))
    expected = "all waited more new 50001 slow/appended slow/truncated 2 644 1 slow/to 300000 644 1 "
    expected += "slow/mode 250000 600 1 slow/other 350000 644 2"
    assert f"{expected} slow: {listed} slow/d: in it".split() == output.split()


def test_where_it_is_taken_for_a_local_one_others_wait(mounted: Mounted) -> None:
    """The control: if the server doesn't know that it may have to wait, a file elsewhere isn't read in two seconds."""
    waiting = (
        "kill -STOP $below; cat slow/read >$base/said & "
        "timeout 2 cat fast/old || echo $?; kill -CONT $below; wait $!"
    )
    assert "124\n" == over_stopped(mounted, waiting, "--all-local")


@pytest.fixture
def slow(stage: Stage) -> Driver:
    """An overlay on slow file systems."""
    tree = {"f": b"file", "g": b"other", "d": {"a": b"a", "b": b"b"}, "link": "f"}
    driver = Driver(Foreseen(stage.config(stage.lower("lower", tree, live=True, layer=False))))  # type: ignore[arg-type]
    stage.adopt(driver.overlay)
    return driver


def meanwhile(driver: Driver, act: Callable[[], object]) -> None:
    """Have this done between what the next request asks for beforehand and the request."""
    assert isinstance(driver.overlay, Foreseen)
    driver.overlay.meanwhile = act  # type: ignore[assignment]  # what it returns is of no use


def left(driver: Driver) -> list[str]:
    """What is in the work directory of files that got ready."""
    return [name for name in os.listdir(driver.overlay.tree.work) if name.startswith("#fuse-overlay-")]


def test_a_copy_that_another_one_has_made_meanwhile(slow: Driver) -> None:
    """Who opens a file for writing finds what was written while its data was copied, not the data of before."""
    number = slow.ino("f")
    meanwhile(slow, lambda: slow.write("f", b"longer than before"))
    handle = slow.overlay.open(number, os.O_RDWR).handle
    assert 1 == slow.overlay.write(handle, b"L", 0)
    slow.overlay.release(handle)
    assert b"Longer than before" == slow.read("f")
    assert [] == left(slow)


def test_a_file_that_is_removed_while_it_is_copied(slow: Driver) -> None:
    """It can't be opened any more, it stays removed, and nothing of the copy is left."""
    number = slow.ino("f")
    meanwhile(slow, lambda: slow.unlink("f"))
    with pytest.raises(FileNotFoundError):
        slow.overlay.open(number, os.O_WRONLY)
    assert ["d", "g", "link"] == slow.ls()
    assert [] == left(slow)


def test_a_file_that_is_moved_while_it_is_copied(slow: Driver) -> None:
    """It is opened where it is then, and keeps its data."""
    number = slow.ino("f")
    meanwhile(slow, lambda: slow.rename("f", "d/moved"))
    slow.overlay.release(slow.overlay.open(number, os.O_WRONLY).handle)
    assert b"file" == slow.read("d/moved")
    assert [] == left(slow)


def test_a_file_that_is_changed_while_it_is_opened(slow: Driver) -> None:
    """Who opens it for reading reads what was written before it was opened; its size and mode are those of then."""
    number = slow.ino("f")
    meanwhile(slow, lambda: slow.write("f", b"new data"))
    handle = slow.overlay.open(number, os.O_RDONLY).handle
    assert b"new data" == slow.overlay.read(handle, 100, 0)
    slow.overlay.release(handle)
    number = slow.ino("g")
    meanwhile(slow, lambda: slow.set("g", size=1, mode=0o600))
    entry = slow.overlay.getattr(number)
    assert (1, 0o600) == (entry.st.st_size, entry.owner.mode)


def test_names_that_come_and_go_while_they_are_looked_up(slow: Driver) -> None:
    """A look-up finds what is there when it is answered."""
    meanwhile(slow, lambda: slow.unlink("f"))
    assert not slow.exists("f")
    meanwhile(slow, lambda: slow.write("f", b"new"))
    assert b"new" == slow.read("f")
    meanwhile(slow, lambda: slow.mkdir("new"))
    assert slow.exists("new")
    meanwhile(slow, lambda: slow.symlink("g2", b"x"))
    with pytest.raises(FileExistsError):
        slow.overlay.mknod(1, b"g2", 0o100644, Caller())


def test_a_listing_while_the_directory_changes(slow: Driver) -> None:
    """It has what is there when it is answered."""

    def change() -> None:
        slow.unlink("d/a")
        slow.write("d/c", b"c")

    meanwhile(slow, change)
    assert ["b", "c"] == slow.ls("d")
    directory = slow.ino("d")
    meanwhile(slow, lambda: slow.write("d/late", b""))
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        slow.overlay.rmdir(*slow.split("d"))
    assert directory == slow.ino("d")


def test_what_was_fetched_is_used(slow: Driver) -> None:
    """A request about a slow file asks its layer for nothing more: its real directory may be gone meanwhile."""
    overlay = slow.overlay
    assert isinstance(overlay, Foreseen)
    number, lower = slow.ino("f"), os.fsdecode(overlay.tree.layers[1].path)
    meanwhile(slow, lambda: os.rename(f"{lower}/f", f"{lower}/elsewhere"))
    handle = overlay.open(number, os.O_RDONLY).handle
    assert b"file" == overlay.read(handle, 10, 0)
    overlay.release(handle)
    number = slow.ino("g")
    meanwhile(slow, lambda: os.rename(f"{lower}/g", f"{lower}/elsewhere"))
    overlay.release(overlay.open(number, os.O_WRONLY).handle)
    assert b"other" == slow.read("g")
    assert overlay.asked > 4


def test_a_quota_is_no_larger_for_slow_files(stage: Stage) -> None:
    """A copy beyond the limit is refused, and not even made beforehand."""
    lower = stage.lower("lower", {"f": b"f" * 100_000}, live=True, layer=False)
    driver = Driver(Foreseen(stage.config(lower)._replace(bytes_max=50_000)))
    stage.adopt(driver.overlay)
    number = driver.ino("f")
    meanwhile(driver, lambda: driver.write("small", b"") if left(driver) else None)
    with pytest.raises(OSError, match=os.strerror(errno.EDQUOT)):
        driver.overlay.open(number, os.O_WRONLY)
    assert [["f"], []] == [driver.ls(), left(driver)]


def test_large_local_files_are_copied_beforehand_too(stage: Stage) -> None:
    """A file of 9 MiB is, by a thread where there is one; one of a MiB isn't."""
    lower = stage.lower("lower", {"large": os.urandom(9 << 20), "small": os.urandom(1 << 20)})
    driver = Driver(Foreseen(stage.config(lower)))
    stage.adopt(driver.overlay)
    overlay = driver.overlay
    assert isinstance(overlay, Foreseen)
    for node in overlay.tree.table.nodes.values():
        node.slow = False
    overlay.tree.mounts.remote = frozenset()
    asked = []
    for name in ("large", "small"):
        before, number = overlay.asked, driver.ino(name)
        overlay.release(overlay.open(number, os.O_RDWR).handle)
        asked.append(overlay.asked - before)
        assert (stage.base / "lower" / name).read_bytes() == (stage.upper / name).read_bytes()
    assert [[1, 0], []] == [asked, left(driver)]
    before = overlay.asked
    driver.rename("large", "moved")
    assert before == overlay.asked  # it is the upper's already
