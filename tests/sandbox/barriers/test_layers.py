"""Attack: the overlay itself: hidden files by other ways, forged whiteouts and marks. Barrier: the overlay server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.sandbox.barriers.attackers import outside

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.barriers.attackers import Attacker
    from tests.sandbox.running import Sandboxes


def test_hidden_files_by_other_ways(attacker: Attacker, tmp_path: Path) -> None:
    """A hidden file is had by no hard link, symlink or /proc/*/root; what isn't hidden is, by all of them."""
    for name in ("secret", "plain"):
        (tmp_path / name).write_text(name)
        (tmp_path / f"{name}-hard").hardlink_to(tmp_path / name)
        (tmp_path / f"{name}-soft").symlink_to(name)
    script = f"""
        place = {str(tmp_path)!r}
        def read(path):
            with open(path) as file:
                assert file.read() in ("secret", "plain")
        for name in ("secret", "plain"):
            os.chdir(place)
            ways = (f"{{place}}/{{name}}", f"{{name}}-hard", f"{{name}}-soft", f"/proc/self/cwd/{{name}}",
                    f"/proc/{{os.getpid()}}/root{{place}}/{{name}}")
            print(*(outcome(read, way) for way in ways))
        """
    hide = ("--hide", str(tmp_path / "secret"))
    assert ["ENOENT " * 4 + "ENOENT", "done " * 4 + "done"] == attacker(script, *hide)
    assert ["done " * 4 + "done"] * 2 == outside(script)


def test_hidden_under_a_new_name(attacker: Attacker, tmp_path: Path) -> None:
    """Renaming the directory that holds a hidden file doesn't bring it back."""
    (tmp_path / "directory").mkdir()
    for name in ("secret", "plain"):
        (tmp_path / "directory" / name).write_text(name)
    script = f"""
        os.chdir({str(tmp_path)!r})
        os.rename("directory", "renamed")
        print(*sorted(os.listdir("renamed")))
        """
    assert ["plain"] == attacker(script, "--hide", str(tmp_path / "directory" / "secret"))
    assert ["plain secret"] == attacker(script)


def test_marks_cannot_be_forged(attacker: Attacker, tmp_path: Path) -> None:
    """Whiteouts, opaque marks and ownership records can't be written from inside; other names and xattrs can."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_text("x")
    script = f"""
        import stat
        os.chdir({str(tmp_path / "directory")!r})
        def make(name):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
        print(outcome(make, ".wh.file") != "done", outcome(make, ".wh..wh..opq") != "done", outcome(make, "wh.file"))
        for name in ("user.overlay.opaque", "user.overlay.whiteout", "user.containers.override_stat"):
            print(outcome(os.setxattr, ".", name, b"y") != "done")
        print(outcome(os.setxattr, ".", "user.mine", b"y"))
        outcome(os.mknod, "node", 0o600 | stat.S_IFCHR, 0)
        print(os.path.exists("file"), sorted(name for name in os.listdir(".") if not name.startswith("node")))
        """
    ended = attacker(script)
    assert ["True True done", "True", "True", "True", "done", "True ['file', 'wh.file']"] == ended


def test_links_out_of_the_layer(sb: Sandboxes, tmp_path: Path) -> None:
    """Symlinks that a sandbox leaves in its layer lead the next run of it nowhere on the host."""
    place = tmp_path / "place"
    place.mkdir()
    plant = f"rm -r {place}; ln -s {tmp_path} {place}; ln -s ../../../../../../..{tmp_path} /etc/out; echo planted"
    assert "planted\n" == sb("-q", "--name", "evil", "--", "sh", "-c", plant).stdout
    again = sb.command("exec", "evil", "sh", "-c", f"echo x >{place}/x; echo y >/etc/out/y; cat {place}/x {tmp_path}/y")
    assert "x\ny\n" == again.stdout, again.stderr
    assert ["place"] == os.listdir(tmp_path)
    assert 0 == sb.command("rm", "evil").returncode
    assert ["place"] == os.listdir(tmp_path)
