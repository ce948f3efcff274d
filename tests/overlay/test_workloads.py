"""Programs that people run, on a mounted overlay; and the same with the server killed while they are at it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.overlay import work_here

if TYPE_CHECKING:
    from tests.conftest import Count
    from tests.overlay.conftest import Mounted

CHECKOUT = Path(__file__).resolve().parents[2]
WORK_HERE = Path(work_here.__file__)
STB = Path("/usr/include/stb")
# Those of its parts that are complete by themselves.
PARTS = ("c_lexer", "ds", "dxt", "image", "image_resize", "image_write", "leakcheck", "perlin", "rect_pack", "sprintf")
MAIN = """
#include "stb_image.h"
#include "stb_image_write.h"
#include "stb_sprintf.h"
#include <string.h>
int main(void)
{
	unsigned char pixels[64 * 64 * 3], *found;
	char name[16];
	int width, height;
	for (unsigned at = 0; at < sizeof pixels; at++)
		pixels[at] = at * 7;
	stbsp_snprintf(name, sizeof name, "%s.png", "picture");
	if (!stbi_write_png(name, 64, 64, 3, pixels, 0))
		return 1;
	found = stbi_load(name, &width, &height, NULL, 3);
	return !found || width != 64 || height != 64 || memcmp(found, pixels, sizeof pixels);
}
"""
MAKEFILE = """
parts = $(patsubst %.c,%.o,$(wildcard *.c))
main: $(parts)
	$(CC) -o $@ $^ -lm
%.o: %.c
	$(CC) -O1 -w -c -o $@ $<
clean:
	rm -f main *.o *.png
"""
DIGESTS = "digests() { (cd $1 && find . -type f -print0 | sort -z | xargs -0r sha256sum | sha256sum); }; "
STRESSORS = (
    *("access", "chmod", "copy-file", "dentry", "dir", "dirdeep", "fallocate", "fiemap", "filename", "flock", "fstat"),
    *("getdent", "hdd", "iomix", "link", "lockf", "open", "rename", "seek", "symlink", "sync-file", "utime", "xattr"),
)


def needs(program: str) -> None:
    """Skip where a program is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"no {program}")


def work(mounted: Mounted, kills: int, script: str, check: str) -> None:
    """Run a script and its check, then have it cut off so often in its middle, with all to be right afterwards."""
    places = (mounted.lower, mounted.upper, mounted.work, mounted.merged)
    command = ["unshare", "-Urm", sys.executable, str(WORK_HERE), *map(str, places), str(kills), "1", script, check]
    with tempfile.TemporaryDirectory() as scratch:  # what is cut off leaves its files there
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": scratch}
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600, env=environment)
    assert (0, "") == (result.returncode, result.stderr[-2000:] if result.returncode else "")
    assert f"{kills}\n" == result.stdout


def plant_many(directory: Path, number: int) -> None:
    """A tree of small files of different sizes, a hundred in a directory."""
    for each in range(number):
        if each % 100 == 0:
            (directory / f"d{each}").mkdir(parents=True)
        (directory / f"d{each // 100 * 100}" / f"f{each}").write_bytes(b"%d\n" % each * (each % 500))


def test_tar(mounted: Mounted, count: Count) -> None:
    """An archive of a large tree unpacks to the same digests."""
    plant_many(mounted.lower / "tree", count(1000, 20_000))
    script = "rm -rf out all.tar; mkdir out; tar cf all.tar tree; tar xf all.tar -C out"
    check = DIGESTS + 'test "$(digests tree)" = "$(digests out/tree)"; tar df all.tar'
    work(mounted, count(1, 10), script, check)


def test_building_a_c_project(mounted: Mounted, count: Count) -> None:
    """gcc and make build a project of 40,000 lines, whose program does what it should."""
    if not STB.is_dir():
        pytest.skip("no stb, the C sources to be built (Debian's libstb-dev)")
    project = mounted.lower / "project"
    shutil.copytree(STB, project)
    for part in PARTS:
        source = f'#define STB_{part.upper()}_IMPLEMENTATION\n#include "stb_{part}.h"\n'
        (project / f"{part}.c").write_text(source)
    (project / "image.c").write_text('#define STB_IMAGE_IMPLEMENTATION\n#include "stb_image.h"\n')
    (project / "main.c").write_text(MAIN)
    (project / "Makefile").write_text(MAKEFILE)
    work(mounted, count(1, 10), "cd project; make -s clean; make -s -j4", "cd project; ./main; make -q main")


def test_installing_a_wheel(mounted: Mounted, count: Count) -> None:
    """pip installs a wheel, and each file has the digest that the wheel says."""
    wheels = [*Path("/usr/share/python-wheels").glob("pip-*.whl")]
    wheels += Path(subprocess.__file__).parent.glob("ensurepip/_bundled/pip-*.whl")
    if not wheels:
        pytest.skip("no wheel: ensurepip has none")
    pip = f"{sys.executable} -I -m pip --no-cache-dir --disable-pip-version-check"
    script = f"rm -rf out; {pip} install -q --no-index --no-compile --target out {wheels[0]}"
    check = f"""{sys.executable} -I - <<'END'
import base64, csv, glob, hashlib
with open(glob.glob("out/pip-*.dist-info/RECORD")[0]) as file:
    rows = [row for row in csv.reader(file) if row[1] and not row[0].startswith("..")]
for name, digest, size in rows:
    content = open(f"out/{{name}}", "rb").read()
    found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    assert (f"sha256={{found}}", int(size)) == (digest, len(content)), name
assert len(rows) > 100
END"""
    work(mounted, count(1, 10), script, check)


def test_rsync(mounted: Mounted, count: Count) -> None:
    """rsync -aHAX makes a copy in which a second rsync finds nothing to do."""
    needs("rsync")
    tree = mounted.lower / "tree"
    plant_many(tree, count(500, 10_000))
    for number in range(0, 500, 50):
        file = tree / f"d{number // 100 * 100}" / f"f{number}"
        os.link(file, tree / f"hard{number}")
        (tree / f"soft{number}").symlink_to(file.name)
        os.utime(file, (number, number))
        file.chmod(0o600 + number % 64)
    prepare = "setfattr -n user.a -v b tree/d0/f1; setfacl -m u:0:r tree/d0/f2; rm -rf copy; "
    check = 'test -z "$(rsync -aHAXnci --delete tree/ copy/)"; getfattr -n user.a copy/d0/f1; '
    check += "getfacl copy/d0/f2 | grep user:root"
    work(mounted, count(1, 10), f"{prepare} rsync -aHAX tree/ copy/", check)


@pytest.mark.parametrize("engine", ["psync", "mmap", "libaio"])
def test_fio(mounted: Mounted, count: Count, engine: str) -> None:
    """What fio writes, partly over what lies below, it reads again as it wrote it."""
    needs("fio")
    size = count(4, 256)
    (mounted.lower / "file").write_bytes(os.urandom(1 << 20))
    least = 4096 if engine == "mmap" else 512  # it takes whole pages only
    job = f"fio --name=v --filename=file --rw=randrw --bssplit={least}/20:8k/60:64k/20 "
    job += f"--size={size}m --ioengine={engine} --iodepth=8 --verify=crc32c "
    job += "--verify_fatal=1 --fsync=64 --output=/dev/null --randseed=1"
    work(mounted, count(1, 5), f"rm -f *.state; {job}", f"{job} --verify_only")


def test_stressors(mounted: Mounted, count: Count) -> None:
    """stress-ng's stressors of file systems find no fault, one and several at once."""
    needs("stress-ng")
    operations = count(200, 20_000)
    each = " ".join(f"--{name} 2 --{name}-ops {operations}" for name in STRESSORS)
    script = f"rm -rf stress; mkdir stress; stress-ng --temp-path stress --verify --timeout {count(5, 120)} {each} -q"
    try:
        work(mounted, count(1, 5), script, 'test -z "$(ls -A stress)"')
    finally:  # what a kill has left is deeper than pytest's own removal can go
        subprocess.run(["rm", "-rf", "--", mounted.upper, mounted.work], check=True)
