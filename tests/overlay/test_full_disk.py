"""A disk that is full below: programs hear of it, and the layer stays sound."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.overlay.conftest import Mounted

MEGA = 1 << 20


def test_no_space(mounted: Mounted) -> None:
    """Writes, copy-ups and new files say so; nothing is half; with space again all goes on, in the next mount too."""
    (mounted.lower / "big").write_bytes(os.urandom(3 * MEGA))
    (mounted.lower / "small").write_bytes(b"small")
    mount = " ".join(mounted.command())
    script = f"""
    export LC_ALL=C
    says() {{ "$@" 2>&1 | grep -q 'No space left' || echo "not refused: $*"; }}
    disk={mounted.base}/disk; mkdir $disk; mount -t tmpfs -o size=4m,nr_inodes=64 none $disk
    rmdir {mounted.upper} {mounted.work}; mkdir $disk/upper $disk/work
    ln -s $disk/upper {mounted.upper}; ln -s $disk/work {mounted.work}
    {mount}; cd {mounted.merged}
    says dd if=/dev/zero of=full bs=64K count=100 conv=fsync
    says bash -c 'echo x >>big'
    says mv big other
    cmp big {mounted.lower}/big
    rm full; echo x >>big; cmp -n {3 * MEGA} big {mounted.lower}/big
    mkdir many; for n in $(seq 100); do : >many/$n 2>/dev/null || break; done
    says touch more; says mkdir more; says chmod 600 small
    test "$(cat small)" = small; rm -r many; chmod 600 small
    cd /; umount {mounted.merged}; {mount}; cd {mounted.merged}
    ls; stat -c '%a %s' small big; ls -A $disk/work; cmp -n {3 * MEGA} big {mounted.lower}/big
    cd /; umount {mounted.merged}
    """
    shell = ["unshare", "-Urm", "bash", "-euc", script]
    result = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=120)
    assert (0, ["big", "small", "600", "5", "644", str(3 * MEGA + 2)]) == (result.returncode, result.stdout.split())
