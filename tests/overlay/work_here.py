"""Runs a program's work on an overlay, whole, and with the server killed in the middle and the layer mounted again.

work_here.py LOWER UPPER WORK MERGED KILLS SEED WORK CHECK

As root of a user namespace. WORK and CHECK are bash scripts, run in the mount; WORK can be run again whatever it left
when it was cut off. Prints how many of the kills came in its middle.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

from tests.overlay.kill_here import Place

# Every file can be read, and every directory listed, whatever was cut off; however deep they are.
LOOK = "find . -type f -execdir cat {} + >/dev/null"
TRIES = 20  # for a kill that comes before the work's end


def started(place: Place, script: str, *, silent: bool = False) -> subprocess.Popen[bytes]:
    """A script that runs in the mount, as a session of its own; it fails at the first command that does."""
    output = subprocess.DEVNULL if silent else 2
    return subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=place.merged,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def done(place: Place, *scripts: str) -> None:
    """Mount, run scripts to their ends, and unmount. Raises CalledProcessError for one that fails."""
    served = place.mount()
    try:
        for script in scripts:
            status = started(place, script).wait()
            if status:
                raise subprocess.CalledProcessError(status, script)
    finally:
        place.unmount()
        os.waitpid(served, 0)


def cut_off(place: Place, script: str, patience: float) -> bool:
    """Kill the server while a script runs, after so many seconds. Whether it was still running."""
    served = place.mount()
    work = started(place, script, silent=True)
    time.sleep(patience)
    is_running = work.poll() is None
    os.kill(served, signal.SIGKILL)
    os.waitpid(served, 0)
    if is_running:
        os.killpg(work.pid, signal.SIGKILL)
    work.wait()
    place.unmount()
    return is_running


def main() -> int:
    """Returns the exit status."""
    *directories, kills, seed, work, check = sys.argv[1:]
    place, chance = Place(*directories), random.Random(int(seed))
    begun = time.monotonic()
    done(place, work, check)
    length = time.monotonic() - begun
    in_the_middle = tries = 0
    while in_the_middle < int(kills) and tries < TRIES * int(kills):
        tries += 1
        in_the_middle += cut_off(place, work, chance.uniform(0, length))
        done(place, LOOK, work, check)
    print(in_the_middle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
