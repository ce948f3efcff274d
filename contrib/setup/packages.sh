# The packages of the distribution: which ones, whether what they bring is there already, and how they are installed.
# Whether something is there is asked of the thing itself and not of the package manager: a compiler from elsewhere will do.

# Each row: what is looked for, its packages on Debian and Ubuntu, its packages on Fedora; more than one with commas.

# sb can't be built or run without these.
run_needs='
python>=3.11    python3,python3-venv,python3-dev    python3,python3-devel
compiler        gcc,libc6-dev                       gcc,glibc-devel
libfuse3        pkg-config,libfuse3-dev             pkgconf-pkg-config,fuse3-devel
libcap          libcap-dev                          libcap-devel
'

# Without these sb does less: one id instead of all subordinate ids; no clean unmount of fuse-overlay's own mounts.
run_wants='
newuidmap       uidmap                              shadow-utils
fusermount3     fuse3                               fuse3
'

# A test whose program isn't there is skipped and says so.
test_wants='
git             git                                 git
make            make                                make
fio             fio                                 fio
sqlite3         sqlite3                             sqlite
tar             tar                                 tar
xz              xz-utils                            xz
ps              procps                              procps-ng
strace          strace                              strace
setpriv         util-linux                          util-linux
script          bsdutils                            /usr/bin/script
ip              iproute2                            iproute
ping            iputils-ping                        iputils
hostname        hostname                            hostname
busybox         busybox-static                      busybox
bwrap           bubblewrap                          bubblewrap
podman          podman                              podman
crun            crun                                crun
fuse-overlayfs  fuse-overlayfs                      fuse-overlayfs
gdb             gdb                                 gdb
ch-run          charliecloud-runtime                charliecloud
setfacl         acl                                 acl
setfattr        attr                                attr
useradd         passwd                              shadow-utils
adduser         adduser                             shadow-utils
vi              vim-tiny                            vim-minimal
tmux            tmux                                tmux
less            less                                less
bindfs          bindfs                              bindfs
stress-ng       stress-ng                           stress-ng
stb             libstb-dev                          stb-devel
rsync           rsync                               rsync
skopeo          skopeo                              skopeo
umoci           umoci                               umoci
buildah         buildah                             buildah
docker-registry docker-registry                     docker-distribution
htpasswd        apache2-utils                       httpd-tools
openssl         openssl                             openssl
ssh-keygen      openssh-client                      openssh
linux.uml       user-mode-linux                     user-mode-linux
systemctl       systemd                             systemd
debootstrap     debootstrap                         debootstrap
'

# Large ones, which only tests with --long use.
long_wants='
node            nodejs                              nodejs
java            default-jdk-headless                java-latest-openjdk-devel
go              golang-go                           golang
rustc           rustc                               rust
npm             npm                                 nodejs-npm
g++             g++                                 gcc-c++
cmake           cmake                               cmake
ninja           ninja-build                         ninja-build
gfortran        gfortran                            gcc-gfortran
valgrind        valgrind                            valgrind
ruby            ruby                                ruby
php             php-cli                             php-cli
lua5.4          lua5.4                              lua
redis-server    redis-server                        redis
psql            postgresql                          postgresql-server
jupyter-nbconvert jupyter-nbconvert,python3-ipykernel python3-nbconvert,python3-ipykernel
nginx           nginx-light                         nginx
mpirun          openmpi-bin,libopenmpi-dev          openmpi,openmpi-devel
chromium        chromium                            chromium
'

# What is asked of a Python: new enough, and it can make a virtual environment with compiled modules. Prints its real
# path: the virtual environment's link then breaks, and is mended, when that very version goes.
python_check='
import os, sys, sysconfig
if sys.version_info < (3, 11): sys.exit(1)
import ensurepip, venv
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")): sys.exit(1)
print(os.path.realpath(sys.executable))
'

distributions_python=/usr/bin/python3

# Prints the path of the Python to use. The distribution's comes first: what stands before it on PATH may be a wrapper
# that picks another version in another directory.
find_python() {
    for candidate in "$distributions_python" "$distributions_python".1[1-9] python3 python3.14 python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null && "$candidate" -I -c "$python_check" 2>/dev/null </dev/null && return
    done
    return 1
}

# Older distributions (Ubuntu 22.04, RHEL 9) have a newer Python beside theirs, in packages called python3.11….
distributions_python_is_old() {
    "$distributions_python" -I -c 'import sys; sys.exit(sys.version_info >= (3, 11))' 2>/dev/null
}

# compiles HEADER PKG-CONFIG-NAME: whether the compiler that Python's modules are built with finds the header.
compiles() {
    found_python=$(find_python) && compiler=$("$found_python" -I -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')
    flags=
    if [ -n "$2" ]; then
        flags=$(pkg-config --cflags "$2" 2>/dev/null) || return
    fi
    # Unquoted: both are lists of words. No printf before it: where SIGPIPE is ignored, as under Python, it would complain
    # that no compiler reads it.
    ${CC:-${compiler:-cc}} -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=35 $flags -fsyntax-only -x c - 2>/dev/null <<EOF
#include <$1>
EOF
}

usable() {
    case $1 in
        "python>=3.11") find_python >/dev/null ;;
        compiler) compiles stdlib.h '' ;;
        libfuse3) compiles fuse_lowlevel.h fuse3 ;;
        stb) [ -e /usr/include/stb/stb_image.h ] ;;
        libcap) compiles sys/capability.h '' ;;
        # Only Debian has it as a package, and only for this machine; where it can't be had it isn't missing.
        linux.uml) ! command -v apt-get >/dev/null || [ "$(uname -m)" != x86_64 ] || command -v "$1" >/dev/null ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

# lacking ROWS: those of the rows whose thing isn't usable here.
lacking() {
    printf '%s\n' "$1" | while read -r thing debian fedora; do
        [ -z "$thing" ] || usable "$thing" || printf '%s %s %s\n' "$thing" "$debian" "$fedora"
    done | if distributions_python_is_old; then sed 's/python3\([-, ]\|$\)/python3.11\1/g'; else cat; fi
}

# column N ROWS: the N-th word of each row, one line altogether, commas as spaces.
column() {
    printf '%s\n' "$2" | while read -r thing debian fedora; do
        case $1 in
            1) printf '%s ' "$thing" ;;
            2) printf '%s ' "$debian" ;;
            3) printf '%s ' "$fedora" ;;
        esac
    done | tr , ' ' | sed 's/ *$//'
}

# refresh_command and install_command ROWS print shell commands: nothing on a distribution that isn't known here.
refresh_command() {
    if command -v apt-get >/dev/null; then
        echo 'apt-get update -qq'
    fi
}

install_command() {
    if command -v apt-get >/dev/null; then
        echo "DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(column 2 "$1")"
    elif command -v dnf >/dev/null; then
        echo "dnf install -y --setopt=install_weak_deps=False $(column 3 "$1")"
    fi
}

# administrators_line ROWS: both in one. A `;` stands between them because lists that can't be refreshed, for one dead
# third-party source, are no reason to stop.
administrators_line() {
    refresh=$(refresh_command)
    echo "${refresh:+$refresh; }$(install_command "$1")"
}

# may_use_sudo LINE: whether the person, or --yes in their stead, allows it.
may_use_sudo() {
    command -v sudo >/dev/null || return
    [ "${assume_yes:-}" = yes ] && return
    [ -t 0 ] && [ -t 2 ] || return
    printf "sb: this installs what is missing:\n\n    sudo sh -c '%s'\n\nGo on? (y/N) " "$1" >&2
    read -r answer
    case $answer in
        [yY]*) return 0 ;;
        *) return 1 ;;
    esac
}

# install_with ROWS [sudo]: all at once, or row by row when a package that this release doesn't have stops all the others.
install_with() {
    rows=$1
    shift
    "$@" sh -c "$(refresh_command)"
    "$@" sh -c "$(install_command "$rows")" && return
    printf '%s\n' "$rows" | while read -r row; do
        "$@" sh -c "$(install_command "$row")" </dev/null || note "cannot install $(column 2 "$row")"
    done
}

# install_rows ROWS: installs them where that is possible; who calls looks again at what is lacking then.
# Descriptor 9 is closed: it is the lock of the set-up, and a daemon that a package starts would keep it.
install_rows() {
    line=$(administrators_line "$1")
    if [ -z "$line" ]; then
        return
    elif [ "$(id -u)" = 0 ]; then
        progress "packages for $(column 1 "$1")"
        install_with "$1" </dev/null >&2 9>&-
    elif may_use_sudo "$line"; then
        install_with "$1" sudo </dev/null >&2 9>&-
    fi
}

# provide NEEDS WANTS: sees to what both lists of rows name. Fails, with the line for the administrator, when one of the
# needs is lacking in the end.
provide() {
    missing=$(lacking "$1$2")
    [ -n "$missing" ] || return 0
    install_rows "$missing"
    missing=$(lacking "$1$2")
    [ -n "$missing" ] || return 0
    line=$(administrators_line "$missing")
    advice=${line:+"as root: $line"}
    advice=${advice:-"install them with this system's package manager (names as on Debian: $(column 2 "$missing"))"}
    needed=$(lacking "$1")
    if [ -n "$needed" ]; then
        failure "cannot set up: these are missing: $(column 1 "$needed")" "$advice"
        return 1
    fi
    note "going on without: $(column 1 "$missing")"
    note "to have them, $advice"
}
