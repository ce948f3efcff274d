"""The agent: a run that it starts is like any other, and nobody gets from it what they haven't got."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rootless_sb.kernel import keyrings, landlock
from tests.sandbox import processes
from tests.sandbox.agents import WARM, standby
from tests.sandbox.running import PATIENCE, SB, eventually, start_on_terminal, stdout_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Count
    from tests.sandbox.agents import Agent


def test_the_first_run_starts_it(unstarted: Agent) -> None:
    """Without the option there is no agent; the first run with it starts one, which then starts the others."""
    unstarted.cold("--no-agent", "--", "true")
    assert [] == unstarted.pids()
    unstarted.start()
    (pid,) = unstarted.pids()
    assert "hello\n" == unstarted.warm("--", "echo", "hello")
    unstarted.cold("--no-agent", "--", "true")
    assert [pid] == unstarted.pids()


def test_the_client_imports_next_to_nothing(agent: Agent) -> None:
    """Before and while the agent does it, `sb run` loads less than a bare import of typing or signal would."""
    done = agent.run("--", "true", through=(sys.executable, "-I", "-X", "importtime"))
    assert WARM in done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "rootless_sb.agent.client" in loaded
    assert set() == loaded & {"typing", "signal", "enum", "re", "argparse", "socket", "functools", "contextlib"}


def test_streams_and_ends(agent: Agent) -> None:
    """stdin, stdout, stderr and the exit status are the caller's own, and errors are said once."""
    assert "given" == agent.warm("--", "cat", given="given")
    assert 3 == agent.run("--", "sh", "-c", "exit 3").returncode
    assert 137 == agent.run("--", "sh", "-c", "kill -9 $$").returncode
    missing = agent.run("--", "no-such-program")
    assert (127, 1) == (missing.returncode, missing.stderr.count("not found"))
    bad = agent.run("--no-such-option")
    assert (125, 1) == (bad.returncode, bad.stderr.count("unknown option"))
    assert "--agent" in agent.run("--help").stdout


ODD_CALLER = """
import os, resource, signal, sys
import prctl
os.umask(0o027)
os.nice(3)
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400))
resource.setrlimit(resource.RLIMIT_STACK, (1 << 22, 1 << 23))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
open("/proc/self/oom_score_adj", "w").write("500")
open("/proc/self/coredump_filter", "w").write("0x11")
prctl.set_timerslack(123456)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
os.chdir("/usr/share")
os.environ["ODD"] = "value \\udcff"
os.execv(sys.argv[1], sys.argv[1:])
"""

LOOK = """
for name in limits oom_score_adj coredump_filter cgroup personality timerslack_ns loginuid; do
    echo "= $name"; cat /proc/self/$name
done
echo = status
grep -E '^(Umask|Uid|Gid|Groups|Seccomp|NoNew|Cpus|Cap|Sig(Ign|Blk|Cgt)|Threads|THP|Mems)' /proc/self/status
echo = directory; pwd; echo = descriptors; ls /proc/self/fd
echo = nice; nice; echo = session; cut -d' ' -f6-8 /proc/self/stat
echo = environment; env | grep -av '^_='
"""


def test_all_is_the_callers(agent: Agent) -> None:
    """What a process hands on to those that it starts is the caller's: as without the agent, whatever the agent has."""
    odd = (sys.executable, "-c", ODD_CALLER)
    script = ("--hostname", "box", "--", "sh", "-c", LOOK)
    alone = agent.cold("--no-agent", *script, through=odd)
    assert alone == agent.warm(*script, through=odd)
    assert "ODD=" in alone
    assert "/usr/share" in alone
    assert agent.cold("--no-agent", *script) == agent.warm(*script)  # and again that of an ordinary one
    assert alone != agent.warm(*script)


def test_more_descriptors(agent: Agent) -> None:
    """--status-fd works, whatever the number, and the caller sees the descriptor's end with the sandbox's."""
    reader, writer = os.pipe()
    high = os.dup2(writer, 57)
    os.close(writer)
    run = agent.sb.start("-q", "--status-fd", str(high), "--", "true", descriptors=[high])
    os.close(high)
    run.communicate(timeout=PATIENCE)
    with open(reader, "rb") as file:
        started, exited = file.read().splitlines()  # until nobody holds it
    assert b'"agent": ' in started
    assert b'"code": 0' in exited


def test_signals_reach_the_command(agent: Agent) -> None:
    """As without the agent, what `sb run` gets the command gets."""
    script = "trap 'echo got it; exit 7' USR1; echo ready; while :; do sleep 0.1; done"
    run = agent.sb.start("-q", "--", "sh", "-c", script)
    stdout_until(run, b"ready\n")
    run.send_signal(signal.SIGUSR1)
    output, errors = run.communicate(timeout=PATIENCE)
    assert (7, b"got it\n") == (run.returncode, output)
    assert WARM in errors.decode()


def _left(agent: Agent) -> list[str]:
    return [each for each in agent.sb.left_behind() if not each.startswith(("sb-agent ", "sb-ready "))]


def test_sb_run_is_killed(agent: Agent) -> None:
    """SIGKILL of `sb run` takes the sandbox along; the agent stays."""
    run = agent.sb.start("-q", "--", "sh", "-c", "echo ready; exec sleep 1000")
    stdout_until(run, b"ready\n")
    assert _left(agent)
    run.kill()
    run.wait()
    eventually(lambda: not _left(agent))
    agent.warm("--", "true")


def test_sb_run_is_killed_while_it_starts(agent: Agent, count: Count) -> None:
    """At whichever moment of the start SIGKILL comes, nothing is left."""
    for number in range(count(30, 300)):
        run = agent.sb.start("-q", "--", "true")
        try:
            run.wait(0.002 * (number % 50))
        except subprocess.TimeoutExpired:
            run.kill()
        run.communicate()
    eventually(lambda: not _left(agent))


def test_the_callers_parent_is_killed(agent: Agent) -> None:
    """As without the agent, a sandbox ends with the process that started `sb run`."""
    shell = agent.sb.start_shell('"$0" run -q -- sleep 1000 & wait')
    eventually(lambda: any(each.name == "sb-init" for each in processes.descendants(os.getpid())))
    shell.kill()
    shell.wait()
    eventually(lambda: not _left(agent))


def test_the_agent_is_killed(agent: Agent) -> None:
    """Its sandboxes go on, and end as they should; the next run is a cold one and starts another agent."""
    run = agent.sb.start("-q", "--", "sh", "-c", "echo ready; read line; touch /new; echo $line; exit 5")
    stdout_until(run, b"ready\n")
    os.kill(agent.pids()[0], signal.SIGKILL)
    eventually(lambda: not agent.pids())
    output, errors = run.communicate(b"hello\n", timeout=PATIENCE)
    assert (5, b"hello\n", True) == (run.returncode, output, WARM in errors.decode())
    eventually(lambda: not _left(agent))
    agent.cold("--", "true")
    eventually(lambda: WARM in agent.run("--", "true").stderr)


def test_the_supervisor_is_killed(agent: Agent) -> None:
    """`sb run` says so, exits with 125, and nothing is left."""
    run = agent.sb.start("-q", "--", "sh", "-c", "echo ready; exec sleep 1000")
    stdout_until(run, b"ready\n")
    (worker,) = (each.pid for each in processes.descendants(agent.pids()[0]) if each.name == "sb-run")
    os.kill(worker, signal.SIGKILL)
    _, errors = run.communicate(timeout=PATIENCE)
    assert (125, True) == (run.returncode, b"its supervisor was killed" in errors)
    eventually(lambda: not _left(agent))


def test_it_ends_when_idle(unstarted: Agent) -> None:
    """After some time without a caller neither agent nor socket is there any more."""
    unstarted.sb.environment["SB_AGENT_IDLE"] = "0.5"
    unstarted.start()
    eventually(lambda: not unstarted.pids() and not unstarted.sockets())
    unstarted.cold("--", "true")


def test_on_a_terminal(agent: Agent) -> None:
    """Who sits at a terminal gets a supervisor in the terminal's own session."""
    master, slave = os.openpty()
    run = start_on_terminal(agent.sb, slave, [SB, "run", "-q", "--", "true"])
    run.wait(PATIENCE)
    os.close(slave)
    told = b""
    try:
        while data := os.read(master, 4096):
            told += data
    except OSError:  # EIO: nobody has the other side open
        pass
    assert (True, False) == (b"  command" in told, b"  agent" in told)


def test_runs_leave_nothing(agent: Agent, count: Count) -> None:
    """After many runs the agent has no more descriptors, children or memory than after a few."""
    (pid,) = agent.pids()

    def held() -> tuple[int, int]:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        eventually(lambda: standby()[0])
        return len(os.listdir(f"/proc/{pid}/fd")), int(status["VmRSS"].split()[0])

    for _ in range(3):
        agent.warm("--", "true")
    descriptors, memory = held()
    for _ in range(count(20, 1000)):
        agent.warm("--", "true")
    eventually(lambda: held()[0] <= descriptors)
    assert held()[1] < memory + 512  # KiB
    eventually(lambda: not _left(agent))


CONFINED = {
    "no_new_privs": "processes.forbid_new_privileges()",
    "seccomp": "processes.forbid_new_privileges(); seccomp.install(DENY_NOTHING)",
    "landlock": "processes.forbid_new_privileges(); landlock.restrict(0, 0, CONNECT_TCP, 0, beneath='/')",
    "keyring": "libc.syscall({'x86_64': 250, 'aarch64': 219}[os.uname().machine], 1, None)",  # keyctl(2): a new one
    "nothing": "pass",
}


def through(kind: str) -> tuple[str, ...]:
    """A program that confines itself so, and executes another."""
    text = f"""
        import os, sys
        from rootless_sb.kernel import landlock, libc, processes, seccomp
        CONNECT_TCP = 2  # <linux/landlock.h>
        DENY_NOTHING = (6).to_bytes(2, "little") + bytes(2) + (0x7FFF0000).to_bytes(4, "little")  # RET ALLOW
        {CONFINED[kind]}
        os.execv(sys.argv[1], sys.argv[1:])
        """
    return (sys.executable, "-I", "-c", textwrap.dedent(text))


@pytest.mark.parametrize("kind", ["no_new_privs", "seccomp"])
def test_a_confined_caller(agent: Agent, kind: str) -> None:
    """Who has given something up doesn't get it back from the agent; the same program that hasn't is served."""
    agent.warm("--", "true", through=through("nothing"))
    agent.cold("--", "true", through=through(kind))


def test_a_caller_in_a_landlock_domain(unstarted: Agent) -> None:
    """Of Landlock nothing is seen in /proc; the kernel's word on who may look into whom tells it."""
    if landlock.version_or_none() < 4:
        pytest.skip("the kernel's Landlock knows no TCP")
    unstarted.start(through=through("no_new_privs"))
    unstarted.warm("--", "true", through=through("no_new_privs"))
    unstarted.cold("--", "true", through=through("landlock"))


def test_another_session_keyring(agent: Agent) -> None:
    """What opens files on network file systems is each session's own."""
    if keyrings.session() < 0:
        pytest.skip("keyctl(2) is forbidden")
    agent.cold("--", "true", through=through("keyring"))
    agent.warm("--", "true", through=through("nothing"))


def test_what_the_agent_cannot_become(unstarted: Agent) -> None:
    """An agent with a lower limit, or less favoured by the kernel, than its caller lets that one go on alone."""
    for less in ("ulimit -n 1000", "renice 5 $$ >/dev/null"):
        unstarted.start(through=("sh", "-c", f'{less}; exec "$@"', "sh"))
        unstarted.cold("--", "true")
        unstarted.warm("--", "true", through=("sh", "-c", f'{less}; exec "$@"', "sh"))
        unstarted.close()
        for path in unstarted.sockets():
            path.unlink()


@pytest.mark.parametrize("namespace", ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup"])
def test_a_caller_in_other_namespaces(agent: Agent, program: Callable[[str], Path], namespace: str) -> None:
    """Who sees other files, networks or processes isn't served."""
    unshare = str(program("unshare"))
    agent.warm("--", "true", through=(str(program("env")),))
    elsewhere = agent.run("--", "true", through=(unshare, "--user", "--map-current-user", "--fork", namespace))
    assert WARM not in elsewhere.stderr


def test_who_only_pretends(agent: Agent) -> None:
    """A connection whose process doesn't know the secret, or sends another one's answer, gets nothing."""
    script = """
        import os, socket, sys
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end.connect(sys.argv[1])
        kind, worker, number = end.recv(256).split()
        assert kind == b"challenge"
        secret = os.readlink(f"/proc/{int(worker)}/fd/{int(number)}").encode()
        if sys.argv[2] == "guess":
            secret = b"/memfd:sb-" + b"0" * 32 + b" (deleted)"
        memory = os.memfd_create("call")
        sender = os.fork() if sys.argv[2] == "child" else 0
        if sender == 0:
            socket.send_fds(end, [secret], [memory, os.pipe()[0], os.open("/", os.O_PATH)])
            print(end.recv(64).decode(), flush=True)
            os._exit(0)
        os.waitpid(sender, 0)
        """
    (path,) = agent.sockets()
    for how in ("guess", "child"):
        command = [sys.executable, "-I", "-c", textwrap.dedent(script), str(path), how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert ("cold\n", "") == (done.stdout, done.stderr)
    agent.warm("--", "true")


def test_a_newer_sb_has_another_agent(tmp_path: Path) -> None:
    """The agent of an installation isn't found once a module of it is another one, nor from another cgroup."""
    top = Path(__file__).resolve().parents[2]
    for package in ("rootless_sb", "fuse_overlay"):
        for source in top.glob(f"{package}/**/*.py"):
            target = tmp_path / source.relative_to(top)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())

    def name() -> str:
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        code += "from rootless_sb.agent import place; print(place.name())"
        return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout

    before = name()
    assert before == name()
    os.utime(tmp_path / "rootless_sb/plan.py", (2_000_000_000, 2_000_000_000))
    assert before != name()
