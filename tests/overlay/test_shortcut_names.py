"""What the compiled helper finds by its name, and doesn't find, is what Python would have found."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tests.overlay.ways import python

if TYPE_CHECKING:
    from tests.overlay.conftest import Mounted


def test_a_name_that_was_missing_is_found_when_it_is_there(mounted: Mounted, way: str) -> None:
    """A name that was looked for in vain is found once something has it, in a directory of any origin."""
    for name in ("lower", "merged", "moved"):
        (mounted.lower / name).mkdir()
    (mounted.lower / "merged/taken").touch()
    program = """
import os
os.mkdir("upper"); os.unlink("merged/taken")
def there(directory): return [os.path.lexists(f"{directory}/{name}") for name in ("new", "taken", "link", "other")]
for directory in ("lower", "merged", "upper", "moved"):
    print(there(directory))
    os.mkdir(f"{directory}/new"); os.mkdir(f"{directory}/new/below")
    print(os.path.exists(f"{directory}/new/below/none"), os.path.exists(f"{directory}/new/below/one"))
    open(f"{directory}/new/below/one", "w").close()
    os.link(f"{directory}/new/below/one", f"{directory}/taken"); os.symlink("none", f"{directory}/link")
    os.rename(f"{directory}/new/below", f"{directory}/other")
    print(there(directory), os.listdir(f"{directory}/other"), os.path.exists(f"{directory}/other/none"))
os.rename("upper", "elsewhere")
print(there("upper"), there("elsewhere"))
"""
    each = "[False, False, False, False]\nFalse False\n[True, True, True, True] ['one'] False\n"
    assert each * 4 + "[False, False, False, False] [True, True, True, True]\n" == mounted.run(python(program))


def test_names_too_long_and_names_of_marks(mounted: Mounted, way: str) -> None:
    """Also after a look-up in vain in the same directory, they are what they were before."""
    program = """
import errno, os
os.mkdir("d")
for name in ("none", "n" * 256, "none", ".wh.none", "x" * 255):
    try: os.stat("d/" + name)
    except OSError as error: print(errno.errorcode[error.errno])
"""
    assert "ENOENT\nENAMETOOLONG\nENOENT\nENOENT\nENOENT\n" == mounted.run(python(program))


def test_what_is_found_is_what_is_listed(mounted: Mounted, way: str) -> None:
    """Whatever is in a directory of a layer, who looks it up by its name is shown the same as who lists it."""
    below = mounted.lower / "d"
    (below / "directory").mkdir(parents=True)
    for number, name in enumerate(("first", "one", "two", "l" * 43, "m" * 44, "n" * 200, ".wh.", "with a blank")):
        (below / name).write_text(name)
        (below / name).chmod(0o600 + number)
    (below / "link").symlink_to("one")
    os.link(below / "one", below / "second name of one")
    os.mkfifo(below / "fifo")
    (below / "owned").write_text("")
    os.setxattr(below / "owned", "user.containers.override_stat", b"0:0:04711")
    os.setxattr(mounted.lower, "user.containers.override_stat", b"0:0:0755")
    names = sorted(os.listdir(below))
    program = f"""
import os
os.stat("d/first")
def shown(st):
    return st.st_ino, oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_rdev
looked_up = {{}}
for name in {names}:
    try: looked_up[name] = shown(os.lstat("d/" + name))
    except FileNotFoundError: pass
listed = {{entry.name: shown(os.lstat("d/" + entry.name)) + (entry.inode(),) for entry in os.scandir("d")}}
assert listed == {{name: (*each, each[0]) for name, each in looked_up.items()}}, (listed, looked_up)
print(sorted(set({names}) - set(listed)), looked_up["owned"][1])
"""
    assert "['.wh.'] 0o104711\n" == mounted.run(python(program))


def test_what_is_found_is_changed_like_any_other(mounted: Mounted, way: str) -> None:
    """Files that were looked up one by one are written, renamed, linked and removed; the layer stays as it was."""
    below = mounted.lower / "d"
    below.mkdir()
    for number in range(60):
        (below / f"f{number}").write_text("before")
    program = """
import os
files = [f"d/f{number}" for number in range(60)]
held = [open(name) for name in files[:20]]
for name in files: os.stat(name)
for number, name in enumerate(files):
    match number % 5:
        case 0: open(name, "w").write("after!")
        case 1: os.rename(name, name + "-moved")
        case 2: os.link(name, name + "-linked")
        case 3: os.unlink(name)
        case 4: os.chmod(name, 0o600)
read = lambda name: open(name).read() if os.path.exists(name) else None
told = [(read(name), read(name + "-moved"), read(name + "-linked")) for name in files]
nothing, same = (None, None, None), ("before", None, None)
assert told == [("after!", None, None), (None, "before", None), ("before", None, "before"), nothing, same] * 12
assert [file.read() for file in held] == ["after!", "before", "before", "before", "before"] * 4
assert {os.stat(name).st_mode & 0o777 for name in files[4::5]} == {0o600}
print(len({os.stat(name).st_ino for name in files if os.path.exists(name)}))
"""
    assert "36\n" == mounted.run(python(program))
    assert {"before"} == {path.read_text() for path in below.iterdir()}
    assert 60 == len(list(below.iterdir()))


def test_a_copy_keeps_its_number_to_itself(mounted: Mounted, way: str) -> None:
    """A file that was copied up is another one than the original, where that is seen under another path as well."""
    (mounted.lower / "a/d").mkdir(parents=True)
    for name in ("f", "g", "h"):
        (mounted.lower / "a/d" / name).write_text("before")
    script = f"""
    cd {mounted.base}; mkdir u w m
    {sys.executable} -m fuse_overlay.cli -o lowerdir={mounted.lower}/a:{mounted.lower},upperdir=u,workdir=w m
    cd m; cat d/g a/d/h >/dev/null; echo after >d/f
    cat a/d/f d/f; test $(stat -c %i d/f) != $(stat -c %i a/d/f) && echo two
    cd ..; umount m
    """
    assert "beforeafter\ntwo\n" == mounted.run(script)


def overlapping(mounted: Mounted, layers: str, program: str) -> str:
    """What a Python program prints in a mount of several directories beneath the lower one."""
    script = f"""
    cd {mounted.base}; mkdir u w m
    {sys.executable} -m fuse_overlay.cli -o lowerdir={layers},upperdir=u,workdir=w m
    cd m; {python(program)}
    cd ..; umount m
    """
    return mounted.run(script)


def test_a_number_that_was_forgotten_and_is_found_again(mounted: Mounted, way: str) -> None:
    """A removed file that is seen at a second path has a number of its own there, and the server knows it."""
    below = mounted.lower / "a/x/d"
    below.mkdir(parents=True)
    for name in ("f", "g", "h"):
        (below / name).write_text("before")
    program = """
import os
held = os.open("d/f", os.O_PATH)
os.unlink("d/f")
other = os.open("x/d/f", os.O_PATH)
os.close(held)
os.stat("a/x/d/g")
print(open("a/x/d/f").read(), open("x/d/f").read(), os.path.exists("d/f"))
"""
    layers = f"{mounted.lower}/a/x:{mounted.lower}/a:{mounted.lower}"
    assert "before before False\n" == overlapping(mounted, layers, program)


def test_a_removed_file_that_is_held_keeps_its_number(mounted: Mounted, way: str) -> None:
    """Where the original is seen at a second path, it is another file than the removed one."""
    below = mounted.lower / "a/x/d"
    below.mkdir(parents=True)
    for name in ("g", "h"):
        (below / name).write_text("before")
    (below / "s").symlink_to("g")
    program = """
import os
held = [os.open("x/d/" + name, os.O_PATH | os.O_NOFOLLOW) for name in ("s", "h")]
for name in ("s", "h"): os.unlink("x/d/" + name)
os.stat("a/x/d/g")
print(os.readlink("a/x/d/s"))
with open("a/x/d/h", "a") as file: file.write(", after")
print(open("a/x/d/h").read())
"""
    assert "g\nbefore, after\n" == overlapping(mounted, f"{mounted.lower}/a:{mounted.lower}", program)
    assert "before" == (below / "h").read_text()


def test_a_layer_that_is_changed_all_the_same(mounted: Mounted, way: str) -> None:
    """Somebody else's files are opened, or not, as it happens; but the server lives."""
    below = mounted.lower / "d"
    below.mkdir()
    for number in range(200):
        (below / f"f{number}").write_text("old")
        (mounted.base / f"new{number}").write_text("new")
    program = f"""
import os
os.stat("d/f0")
for number in range(1, 200):
    name = f"d/f{{number}}"
    try:
        if number % 2: os.stat(name)
        else: open(name).close()
        os.rename(f"{mounted.base}/new{{number}}", f"{mounted.lower}/d/f{{number}}")
        if number % 3 == 0: os.unlink(f"{mounted.lower}/d/f{{number}}")
        open(name).read()
    except OSError:
        continue
with open("d/mine", "w") as file: file.write("well")
print(open("d/mine").read())
"""
    assert "well\n" == mounted.run(python(program))


def test_another_name_of_a_copy_is_the_copy_in_the_next_mount(mounted: Mounted, way: str) -> None:
    """Who looks a lower file with two names up by the one gets what was written by the other."""
    for directory in ("d", "e"):
        (mounted.lower / directory).mkdir()
        (mounted.lower / directory / "first").touch()
    (mounted.lower / "d/f").write_text("before")
    os.link(mounted.lower / "d/f", mounted.lower / "e/f")
    mounted.run("echo after >d/f")
    assert "after\n" == mounted.run("stat e/first >/dev/null; cat e/f")
    assert "before" == (mounted.lower / "e/f").read_text()
