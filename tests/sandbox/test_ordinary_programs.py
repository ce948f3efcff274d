"""Ordinary programs and builds run under the defaults as they do outside, limits and barriers and all.

(More of them, of what barriers must not break, in barriers/test_programs.py; package managers in test_packages.py.)
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.running import Sandboxes


class Program(NamedTuple):
    """`needs`: programs, the first of which names the test; `script`: the shell's, run in an empty directory; `says`:
    what it prints. `options`: of `sb run`.
    """

    needs: str
    script: str
    says: str
    options: tuple[str, ...] = ()


MAKEFILE = """
mkdir parts; for n in $(seq 40); do echo "int part$n(void) { return $n; }" >parts/p$n.c; done
{ for n in $(seq 40); do echo "int part$n(void);"; done
  echo '#include <stdio.h>'; echo 'int main(void) { int sum = 0;'
  for n in $(seq 40); do echo "sum += part$n();"; done; echo 'printf("%d\\n", sum); return 0; }'; } >parts/main.c
printf 'all: program\\nprogram: $(patsubst %%.c,%%.o,$(wildcard parts/*.c))\\n\\t@$(CC) -o $@ $^\\n%%.o: %%.c\\n\\t@$(CC) -c -o $@ $<\\n' >Makefile
"""
ASAN = """
printf '#include <stdlib.h>\\n#include <stdio.h>\\nint main(int c, char **v) { char *p = malloc(9); p[8 + (c > 1)] = 1; puts("fine"); free(p); return 0; }\\n' >a.c
gcc -g -fsanitize=address,undefined -o a a.c && ./a && ! ./a x 2>err && grep -o heap-buffer-overflow err | head -n 1
"""
HTTP = """
import functools, http.server, threading, urllib.request
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/etc")
handler.func.log_message = lambda *_: None
server = http.server.ThreadingHTTPServer(("127.0.0.1", 80), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen("http://localhost/hostname").status)
"""
POOL = """
import concurrent.futures, multiprocessing, os
if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        print(sum(pool.map(abs, range(-100, 0))))
"""
PACKAGE = """
mkdir -p thing && echo 'answer = 42' >thing/__init__.py
printf 'from setuptools import setup\\nsetup(name="thing", version="1", packages=["thing"])\\n' >setup.py
"$python" -m venv env && ./env/bin/python -m pip install -q --no-index --no-build-isolation --disable-pip-version-check . 2>err || cat err
cd / && "$OLDPWD/env/bin/python" -c 'import thing; print(thing.answer)'
"""
PTY = "script -qec 'tput -T xterm cols >/dev/null; echo at $(tty)' /dev/null | tr -d '\\r' | sed 's/[0-9]*$/N/'"
TMUX = "tmux -L own new-session -d 'echo inside >out; tmux -L own wait-for -S done' \\; wait-for done && cat out"

QUICK = (
    Program(
        "git",
        "git init -q a && cd a && git config user.email a@b && git config user.name A && echo 1 >f && git add f && "
        "git commit -qm one && git clone -q . ../b && git -C ../b gc -q && git -C ../b log --format=%s",
        "one\n",
    ),
    Program("tar", "mkdir d; seq 1000 >d/f; tar cf - d | (mkdir e; tar xf - -C e); cmp d/f e/d/f && echo same", "same\n"),
    Program("xz", "seq 50000 >f; xz -T2 -k f && xz -dc f.xz | cmp - f && echo same", "same\n"),
    Program("gzip", "seq 50000 >f; gzip -k f && zcat f.gz | tail -n 1", "50000\n"),
    Program("perl", "perl -e 'my %h = map { $_ => $_ ** 2 } 1..9; print join(\",\", map { $h{$_} } sort keys %h), \"\\n\"'",
            "1,4,9,16,25,36,49,64,81\n"),
    Program("awk", "seq 100 | awk '{ sum += $1 } END { print sum }'", "5050\n"),
    Program("sed", "printf 'a\\nb\\n' >f; sed -i 's/b/c/' f && cat f", "a\nc\n"),
    Program("find", "mkdir -p a/b/c; touch a/b/c/f; find a -type f -print0 | xargs -0 -n 1 -P 4 basename", "f\n"),
    Program("sort", "seq 20000 | sort -R -S 1M --parallel=2 | sort -n | tail -n 1", "20000\n"),
    Program("bash", 'x=($(seq 3)); diff <(echo "${x[@]}") <(echo 1 2 3) && coproc cat && echo hi >&"${COPROC[1]}" && '
            'read -r -u "${COPROC[0]}" line && echo "$line"', "hi\n"),
    Program("sqlite3", "sqlite3 db 'pragma journal_mode=wal; create table t(x); insert into t values(7); select x from t'",
            "wal\n7\n"),
    Program("openssl", "openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=x 2>/dev/null && "
            "openssl verify -CAfile c c", "c: OK\n"),
    Program("ssh-keygen", "ssh-keygen -q -t ed25519 -N '' -f k && ssh-keygen -y -f k | cut -d' ' -f1", "ssh-ed25519\n"),
    Program("rsync", "mkdir a; seq 9 >a/f; ln a/f a/g; rsync -aH a/ b/ && rsync -aHn --itemize-changes a/ b/ && ls b", "f\ng\n"),
    Program("gcc", "printf '#include <stdio.h>\\nint main(void) { puts(\"hello\"); }\\n' >a.c && gcc -O2 -o a a.c && ./a", "hello\n"),
    Program("gcc make", f"{MAKEFILE} make -j8 && ./program", "820\n"),
    Program("gcc ASan", ASAN, "fine\nheap-buffer-overflow\n"),
    Program("gcc OpenMP", "printf '#include <stdio.h>\\nint main(void) { int s = 0;\\n#pragma omp parallel for reduction(+:s)\\n"
            "for (int i = 0; i < 101; i++) s += i; printf(\"%%d\\\\n\", s); }\\n' >a.c && gcc -fopenmp -o a a.c && ./a", "5050\n"),
    Program("gdb", "gdb -q -batch -ex 'print 6*7'", "$1 = 42\n"),
    Program("python-venv", PACKAGE, "42\n"),
    Program("pytest", "printf 'import pytest\\n@pytest.mark.parametrize(\"n\", range(20))\\ndef test_it(n, tmp_path):\\n"
            "    (tmp_path / \"f\").write_text(\"x\")\\n' >test_it.py && \"$python\" -m pytest -q -p no:cacheprovider test_it.py | "
            "grep -o '20 passed'", "20 passed\n"),
    Program("mypy", "echo 'x: int = \"a\"' >a.py; \"$python\" -m mypy --no-incremental a.py | grep -c assignment", "1\n"),
    Program("ruff", "echo 'import os' >a.py; \"$python\" -m ruff check --isolated --no-cache -q a.py | grep -c F401", "1\n"),
    Program("http.server", f"\"$python\" -c '{HTTP}'", "200\n"),
    Program("multiprocessing", f"cat >a.py <<'E'\n{POOL}E\n\"$python\" a.py", "5050\n"),
    Program("tmux", TMUX, "inside\n"),
    Program("vi", "echo a >f; vi -es -u NONE -c 's/a/b/' -c 'wq' f; cat f", "b\n"),
    Program("script", PTY, "at /dev/pts/N\n"),
    Program("fio", "fio --name=x --size=1m --rw=randrw --verify=crc32c --minimal | cut -d';' -f5", "0\n"),
    Program("flock", "flock f sh -c 'flock -n f echo no || echo held'", "held\n"),
    Program("timeout", "timeout 0.1 sleep 100; echo $?", "124\n"),
    Program("busybox", "busybox sh -c 'echo a | busybox md5sum' | cut -c1-8", "60b725f1\n"),
    Program("dpkg-deb", "mkdir -p p/DEBIAN; printf 'Package: p\\nVersion: 1\\nArchitecture: all\\nMaintainer: a\\nDescription: p\\n' "
            ">p/DEBIAN/control; dpkg-deb -b p p.deb >/dev/null && dpkg -i p.deb >/dev/null 2>&1; dpkg-query -W p", "p\t1\n"),
    Program("nice", "nice -n 5 nice", "5\n"),
    Program("strace", "strace -f -c -o out sh -c 'true; true' && grep -c execve out", "1\n"),
)  # fmt: skip

GO_MODULE = """
export HOME=$PWD GOFLAGS=-mod=mod GOCACHE=$PWD/cache GO111MODULE=on; mkdir -p m/sub; cd m
printf 'module example.org/m\\n' >go.mod
printf 'package sub\\nfunc Answer() int { return 42 }\\n' >sub/sub.go
printf 'package sub\\nimport "testing"\\nfunc TestIt(t *testing.T) { if Answer() != 42 { t.Fail() } }\\n' >sub/sub_test.go
printf 'package main\\nimport ("fmt"; "example.org/m/sub")\\nfunc main() { fmt.Println(sub.Answer()) }\\n' >main.go
go build -o program . && ./program && go test ./sub >/dev/null && echo tested
"""
JAVA = """
mkdir -p src/a out
printf 'package a; public class Main { public static void main(String[] w) { System.out.println(java.util.stream.IntStream.range(0, 101).parallel().sum()); } }' >src/a/Main.java
javac -d out src/a/Main.java && jar cfe a.jar a.Main -C out . && java -jar a.jar
"""
NODE = """
export HOME=$PWD npm_config_update_notifier=false npm_config_audit=false npm_config_fund=false; mkdir -p dep app; cd app
printf '{"name": "dep", "version": "1.0.0", "main": "i.js"}' >../dep/package.json; echo 'module.exports = 42' >../dep/i.js
printf '{"name": "app", "version": "1.0.0", "scripts": {"build": "node b.js"}, "dependencies": {"dep": "file:../dep"}}' >package.json
echo 'const {Worker} = require("worker_threads"); new Worker("console.log(require(\\"dep\\"))", {eval: true})' >b.js
npm install --offline --silent >/dev/null && npm run --silent build
"""
POSTGRES = """
bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | tail -n 1)"); export LC_ALL=C
"$bin/initdb" -D data -A trust >/dev/null && "$bin/pg_ctl" -D data -o '-k /tmp -h 127.0.0.1' -l log -w start >/dev/null
"$bin/psql" -h 127.0.0.1 -d postgres -Atc 'create table t as select generate_series(1, 100) x; select sum(x) from t' | tail -n 1
"$bin/pg_ctl" -D data -w stop >/dev/null
"""
REDIS = """
redis-server --port 6400 --daemonize yes --dir "$PWD" --logfile log >/dev/null
until redis-cli -p 6400 ping >/dev/null 2>&1; do sleep 0.1; done
redis-cli -p 6400 set a 42 >/dev/null; redis-cli -p 6400 bgsave >/dev/null; redis-cli -p 6400 get a; redis-cli -p 6400 shutdown
"""
NOTEBOOK = """
export HOME=$PWD
printf '{"cells": [{"cell_type": "code", "execution_count": null, "metadata": {}, "outputs": [], "source": ["print(6 * 7)"]}], "metadata": {"kernelspec": {"display_name": "p", "language": "python", "name": "python3"}}, "nbformat": 4, "nbformat_minor": 4}' >n.ipynb
/usr/bin/jupyter-nbconvert --to notebook --execute --output done n.ipynb >log 2>&1 || cat log
grep -o '"42' done.ipynb
"""
NGINX = """
mkdir www; echo served >www/index.html
printf 'daemon on; pid %s/pid; error_log %s/log; events {} http { access_log off; server { listen 80; root %s/www; } }' "$PWD" "$PWD" "$PWD" >conf
chmod 755 . www; nginx -c "$PWD/conf" -e "$PWD/log" && "$python" -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1/").read().decode(), end="")'
"""
CMAKE = """
printf 'cmake_minimum_required(VERSION 3.10)\\nproject(a CXX)\\nfind_package(Threads REQUIRED)\\nadd_executable(a a.cpp)\\ntarget_link_libraries(a Threads::Threads)\\n' >CMakeLists.txt
printf '#include <iostream>\\n#include <thread>\\n#include <stdexcept>\\nint main() { std::thread t([] { try { throw std::runtime_error("caught"); } catch (std::exception &e) { std::cout << e.what() << std::endl; } }); t.join(); }\\n' >a.cpp
cmake -S . -B b -G Ninja >/dev/null && cmake --build b >/dev/null && b/a
"""
RUST = """
printf 'fn main() { let h: Vec<_> = (0..4).map(|n| std::thread::spawn(move || n)).collect(); println!("{}", h.into_iter().map(|t| t.join().unwrap()).sum::<i32>()); }\\n' >a.rs
rustc -C opt-level=2 -o a a.rs && ./a
"""

LARGE = (
    Program("go", GO_MODULE, "42\ntested\n"),
    Program("java javac jar", JAVA, "5050\n"),
    Program("node npm", NODE, "42\n"),
    Program("rustc", RUST, "6\n"),
    Program("cmake ninja g++", CMAKE, "caught\n"),
    Program("gfortran", "printf 'program a\\nprint \"(I0)\", sum([1, 2, 3])\\nend program\\n' >a.f90; gfortran -o a a.f90 && ./a", "6\n"),
    Program("valgrind", "valgrind -q true && echo clean", "clean\n"),
    Program("ruby", "ruby -e 'puts (1..4).map { |n| Thread.new { n } }.map(&:value).sum'", "10\n"),
    Program("php", "php -r 'echo json_encode([1, 2]), PHP_EOL;'", "[1,2]\n"),
    Program("lua5.4", "lua5.4 -e 'print(string.format(\"%d\", 6 * 7))'", "42\n"),
    Program("redis-server", REDIS, "42\n"),
    Program("psql", POSTGRES, "5050\n", ("--userns", "keep-id")),
    Program("jupyter-nbconvert", NOTEBOOK, '"42\n'),
    Program("nginx", NGINX, "served\n"),
)  # fmt: skip

# What of `needs` isn't the name of a program, but of what one does, or comes with this Python.
_NAMES_ALONE = ("ASan", "OpenMP", "python-venv", "pytest", "mypy", "ruff", "http.server", "multiprocessing")


def run(sb: Sandboxes, place: Path, wanted: Program, program: Callable[[str], Path]) -> None:
    """Run it in a sandbox, in a directory of its own there, and compare."""
    for name in wanted.needs.split():
        if name not in _NAMES_ALONE:
            program(name)
    shell = ("bash", "-c", f"set -e; python={sys.executable}; mkdir work; cd work; {wanted.script}")
    done = sb("-q", "-w", str(place), *wanted.options, "--", *shell)
    assert (0, wanted.says) == (done.returncode, done.stdout), done.stderr
    assert [] == list(place.iterdir())


@pytest.mark.parametrize("wanted", QUICK, ids=lambda each: each.needs)
def test_quick_ones(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path], wanted: Program) -> None:
    """It does its work, and the host has none of it."""
    run(sb, tmp_path, wanted, program)


@pytest.mark.long
@pytest.mark.parametrize("wanted", LARGE, ids=lambda each: each.needs)
def test_large_ones(sb: Sandboxes, tmp_path: Path, program: Callable[[str], Path], wanted: Program) -> None:
    """It does its work, and the host has none of it."""
    run(sb, tmp_path, wanted, program)
