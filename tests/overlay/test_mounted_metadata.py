"""Owners, ACLs and privileges through a real mount: what the kernel enforces of what we keep as data."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.overlay.conftest import Mounted

AS = "setpriv --clear-groups --reuid {0} --regid {0} --"

# Capabilities of revision 2 (linux/capability.h), as setcap(8) writes them: cap_net_raw, permitted and effective.
SET_CAPABILITY = (
    "python3 -c 'import os, sys; "
    'os.setxattr(sys.argv[1], "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))\' '
)


def test_acls_are_enforced(mounted: Mounted) -> None:
    """A named user may what the ACL says, restricted by the mask, and others may not."""
    one, two = AS.format(1), AS.format(2)
    (mounted.lower / "f").write_text("content")
    mounted.run_with_ids(
        f"""
        chmod 600 f; ! {one} cat f 2>/dev/null
        setfacl -m u:1:r f; test "$({one} cat f)" = content; ! {two} cat f 2>/dev/null
        (! {one} sh -c 'echo >>f' 2>/dev/null)
        test $(stat -c %a f) = 640
        chmod 600 f; ! {one} cat f 2>/dev/null; getfacl -n f | grep -q 'user:1:r--.*effective:---'
        chmod 640 f; {one} cat f >/dev/null
        setfacl -b f; ! {one} cat f 2>/dev/null; test $(stat -c %a f) = 600
        setfacl -m g:2:rw f; {two} sh -c 'echo more >>f'; test $(getfattr -m - f 2>/dev/null | grep -c acl) = 1
        """,
        f"{two} grep more f; ! {one} cat f 2>/dev/null",
    )


def test_default_acls_and_the_umask(mounted: Mounted) -> None:
    """What is made where there is a default ACL inherits it and no umask counts; elsewhere the umask does."""
    mounted.run_with_ids(
        """
        umask 077; mkdir plain with; setfacl -d -m u::rwx,g::rwx,o::r,u:3:rw with
        touch plain/f with/f; mkdir plain/d with/d; mkfifo with/p
        test "$(stat -c %a plain/f plain/d with/f with/d with/p | tr '\\n' ' ')" = "600 700 664 774 664 "
        getfacl -n with/d | grep -qx default:user:3:rw-; getfacl -n with/f | grep -q ^user:3:rw-; touch with/d/g
        test $(stat -c %a with/d/g) = 664
        """
    )


def test_a_write_takes_setuid_away(mounted: Mounted) -> None:
    """A write or a truncation does, whoever's, as in any user namespace; a change of owner does too."""
    mounted.run_with_ids(
        f"""
        for who in env "{AS.format(2)}"; do for how in 'echo x >>f' 'truncate -s 1 f' 'echo y >f'; do
            echo content >f; chown 1:1 f; chmod 6777 f; test $(stat -c %a f) = 6777
            $who sh -c "$how"; test $(stat -c %a f) = 777 || {{ echo "$who, $how left $(stat -c %a f)"; exit 1; }}
        done; done
        chmod 6777 f; chown 3 f; test $(stat -c %a f) = 777
        chmod 2747 f; echo x >>f; test $(stat -c %a f) = 2747
        {AS.format(2)} sh -c 'echo x >>f'; test $(stat -c %a f) = 747
        chmod 4755 f; {AS.format(3)} sh -c 'exec 3>>f; echo x >&3; chmod 4755 f'; test $(stat -c %a f) = 4755
        """,
        "test $(stat -c %a f) = 4755",
    )


def test_libfuse_by_itself(mounted: Mounted) -> None:
    """Where the first exchange with the kernel can't be amended, files, owners and modes are right all the same."""
    (mounted.lower / "f").write_text("content")
    mounted.run_with_ids(
        f"""
        umask 077; mkdir d; echo x >d/g; test "$(stat -c %a d d/g | tr '\n' ' ')" = "700 600 "
        echo more >>f; chown 1 f; chmod 4755 f; {AS.format(1)} sh -c 'echo x >>f'; test "$(stat -c %u:%a f)" = 1:755
        (! setfacl -m u:1:r f 2>/dev/null); mv f d; ln -s d/f l; test "$(tail -n 1 l)" = x
        """,
        "test $(stat -c %a d/f) = 755",
        options=("--libfuse-alone",),
    )


def test_an_acl_and_setgid(mounted: Mounted) -> None:
    """Who sets an ACL keeps the file's setgid as a member of its group, by a supplementary one too, as on any other
    file system; for others it goes."""
    mounted.run_with_ids(
        f"""
        mkdir {mounted.base}/elsewhere; chmod 755 {mounted.base}
        for place in . {mounted.base}/elsewhere; do
            chmod 777 $place; cd $place
            for group in 5 6; do
                rm -f f; touch f; chown 1000:5 f; chmod 2755 f
                setpriv --reuid 1000 --regid 1000 --groups $group setfacl -m u:7:r f
                stat -c "$group %a" f; getfacl -cn f | grep -x user:7:r--
            done >{mounted.base}/seen-$(basename $place)
            cd {mounted.merged}
        done
        grep -x '5 2755' {mounted.base}/seen-elsewhere; grep -x '6 755' {mounted.base}/seen-elsewhere
        cmp {mounted.base}/seen-*
        """
    )


def test_capabilities_of_files(mounted: Mounted) -> None:
    """They are listed, survive a rename and a new mount, and go with a write or a change of owner."""
    (mounted.lower / "f").write_text("content")
    mounted.run_with_ids(
        f"{SET_CAPABILITY} f; mv f g; getfattr -m - g | grep -qx security.capability; {SET_CAPABILITY} g",
        f"""
        getfattr -m - g | grep -qx security.capability
        cp g h; {SET_CAPABILITY} h; echo >>h; (! getfattr -m - h | grep .); {SET_CAPABILITY} h; chown 1 h
        (! getfattr -m - h | grep .)
        python3 - <<'END'
import os
file = open("new", "wb", buffering=0)
file.write(b"x" * 100000)
os.setxattr(file.fileno(), "security.capability", os.getxattr("g", "security.capability"))
file.close()
assert os.listxattr("new") == ["security.capability"]
END
        """,
    )
    assert "security.capability" in mounted.run("getfattr -m - new")


def test_attributes_of_user_and_security(mounted: Mounted) -> None:
    """Both can be made and replaced, as XATTR_CREATE and XATTR_REPLACE say; they are listed and survive a new mount."""
    (mounted.lower / "f").write_text("content")
    (mounted.lower / "d").mkdir()
    mounted.run_with_ids(
        """python3 - <<'END'
import errno, os
def number(*arguments):
    try:
        return os.setxattr(*arguments)
    except OSError as error:
        return error.errno
for path in ("f", "d"):
    for name in ("user.module", "security.module"):
        assert number(path, name, b"one", os.XATTR_REPLACE) == errno.ENODATA
        assert number(path, name, b"two", os.XATTR_CREATE) is None
        assert number(path, name, b"three", os.XATTR_CREATE) == errno.EEXIST
        assert number(path, name, b"four", os.XATTR_REPLACE) is None
        os.setxattr(path, name + ".gone", b"")
        os.removexattr(path, name + ".gone")
os.rename("f", "g")
END""",
        """test "$(getfattr -d -m - g d | grep -c '="four"')" = 4; (! getfattr -d -m - g d | grep gone)""",
    )


def test_real_capabilities_of_a_lower_file(mounted: Mounted) -> None:
    """They are shown as on the host, and go along at copy-up as data: the copy has none that is real."""
    lower, upper = mounted.lower, mounted.upper
    mounted.run_with_ids(
        f"""
        getfattr -m - f | grep -qx security.capability; chmod 711 f; getfattr -m - f | grep -qx security.capability
        (! getfattr -m - {upper}/f | grep security); getfattr -m - {upper}/f | grep -q user.fuse-overlay.capability
        echo more >>f; (! getfattr -m - f | grep .)
        """,
        before=f"mount -t tmpfs none {lower}; echo content >{lower}/f; {SET_CAPABILITY} {lower}/f",
    )


def test_setgid_directories(mounted: Mounted) -> None:
    """Whoever makes something in one, it has the directory's group; directories have the bit."""
    mounted.run_with_ids(
        f"""
        mkdir d; chown 0:7 d; chmod 2777 d; {AS.format(2)} sh -c 'umask 022; mkdir d/e; touch d/f d/e/g; ln -s x d/l'
        test "$(stat -c %u:%g:%a d/e d/f d/e/g | tr '\\n' ' ')" = "2:7:2755 2:7:644 2:7:644 "
        test $(stat -c %g d/l) = 7
        """
    )


def test_appending_asks_for_nothing(mounted: Mounted) -> None:
    """However often a file is written to, the kernel doesn't ask for its capabilities each time."""
    command = f"{sys.executable} -m fuse_overlay.cli -d"
    options = f"lowerdir={mounted.lower},upperdir={mounted.upper},workdir={mounted.work}"
    log = mounted.base / "log"
    script = (
        f"{command} -o {options} {mounted.merged} 2>{log} & until mountpoint -q {mounted.merged}; do sleep 0.05; done; "
        f"for n in $(seq 200); do echo x >>{mounted.merged}/f; done; umount {mounted.merged}; wait"
    )
    subprocess.run(["unshare", "-Urm", "bash", "-euc", script], check=True, timeout=120)
    requests = log.read_text()
    assert 199 <= requests.count("OPEN")
    assert 20 > requests.count("GETXATTR")
