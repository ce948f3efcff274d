# The virtual environment .venv of the checkout. Sourced with $contrib set to the folder contrib of the checkout.

checkout=$(cd "$contrib/.." && pwd -P)
venv=$checkout/.venv
. "$contrib/setup/messages.sh"
. "$contrib/setup/packages.sh"

# finished run|test: whether a set-up for sb itself, or for the tests too, came to its end here. The stamp is written last;
# it holds the place that .venv was made for, because a virtual environment can't be moved.
finished() {
    [ -f "$venv/set-up.$1" ] && [ -x "$venv/bin/python" ] && IFS= read -r place <"$venv/set-up.$1" && [ "$place" -ef "$venv" ]
}

# up_to_date run|test: the same, and what is built from is as it was then. contrib/sb asks this in its own words, so as
# to read no other file.
up_to_date() {
    newest=$checkout/pyproject.toml
    for source in "$checkout"/fuse_overlay/kernel/shortcut*.[ch]; do
        ! [ "$source" -nt "$newest" ] || newest=$source
    done
    finished "$1" && ! [ "$newest" -nt "$venv/set-up.$1" ]
}

# One set-up at a time. The lock is held by descriptor 9 and so by the processes started here too: when this shell is
# killed, the next set-up waits for the pip that it left behind. Without flock(1), or where the file system has no locks
# (some NFS), two set-ups at once are the caller's own risk.
lock() {
    command -v flock >/dev/null || return 0
    exec 9<>"$contrib/setup/environment.sh" # for writing, which an exclusive lock on NFS asks for (flock(2))
    if ! flock -n 9; then
        note 'waiting for another set-up of this checkout'
        flock 9 || :
    fi
}

cannot_write() {
    failure "cannot write $checkout: it belongs to $(stat -c %U "$checkout")" \
        "make a checkout of your own: git clone $checkout ~/sb, then ~/sb/contrib/sb"
}

make_venv() {
    python=$(find_python)
    progress "a virtual environment for $python in $venv"
    rm -rf "$venv"
    if ! problem=$("$python" -I -m venv "$venv" 2>&1); then
        failure "cannot make $venv: $(printf '%s' "$problem" | tail -n 1)" "see whether it has room: df -h $checkout"
        return 1
    fi
}

# pip_install EXTRAS: the checkout itself, editable, with what it depends on.
pip_install() {
    progress "sb and the Python packages that it needs${1:+, for its tests too}"
    log=$venv/set-up.log
    if ! (cd "$checkout" && "$venv/bin/python" -I -m pip install --quiet --no-input --editable ".$1") >"$log" 2>&1; then
        failure "cannot install the Python packages: $(sed -n 's/^ *ERROR: //p' "$log" | head -n 1)" \
            "read $log; behind a proxy set https_proxy, for a mirror PIP_INDEX_URL; then call this once more"
        return 1
    fi
}

# What is left serves sb's start.
make_start_fast() {
    # setuptools puts a hook into every start of Python, 0.7 ms, for installations that have no build system of their own.
    rm -f "$venv"/lib/python*/site-packages/distutils-precedence.pth
    # A module that doesn't compile is one for another version of Python, which nothing here imports.
    "$venv/bin/python" -I -m compileall -q "$checkout/rootless_sb" "$checkout/fuse_overlay" \
        "$venv"/lib/python*/site-packages >/dev/null 2>&1 || :
    "$venv/bin/python" -I "$contrib/setup/console_scripts.py"
}

# build_venv run|test: begins anew where no set-up came to its end. From the removal of the stamps to their return, an
# interruption leaves none. They get the time of the beginning: what is built from may change meanwhile.
build_venv() {
    finished run || make_venv || return
    rm -f "$venv/set-up.run" "$venv/set-up.test"
    printf '%s\n' "$venv" >"$venv/set-up.begun" || return
    case $1 in
        run) pip_install '' ;;
        test) pip_install '[test]' ;;
    esac && make_start_fast || return
    [ "$1" = run ] || cp -p "$venv/set-up.begun" "$venv/set-up.test" || return
    mv "$venv/set-up.begun" "$venv/set-up.run" && progress 'done'
}

# set_up run|test: returns when .venv serves sb, or sb and its tests; fails with a message. In a subshell, so that sb gets
# the environment as the caller has it.
set_up() (
    wants=$run_wants
    [ "$1" = run ] || wants=$run_wants$test_wants
    if up_to_date "$1"; then
        provide '' "$wants"
        exit
    fi
    if ! [ -w "$checkout" ]; then
        failure "cannot write to $checkout: it belongs to $(stat -c %U "$checkout")" \
            "make a checkout of your own: git clone $checkout ~/sb, then ~/sb/contrib/sb"
        exit 1
    fi
    lock
    up_to_date "$1" && exit
    provide "$run_needs" "$wants" || exit
    unset PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX
    # Old versions of pip build a package without pyproject.toml (python-prctl) with whatever setuptools is there.
    export PIP_USE_PEP517=1 PIP_DISABLE_PIP_VERSION_CHECK=1
    build_venv "$1" </dev/null >&2
)
