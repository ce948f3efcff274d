# What contrib/test needs when root calls it: an ordinary user with subordinate ids, who has a copy of the checkout and
# may open /dev/fuse. Sourced after environment.sh.

test_user=${SB_TEST_USER:-sb-test}

# first_free_id FILE…: the lowest id above all ranges in the files, lines of name:first:count (subuid(5)), and at least
# 100000, where distributions begin.
first_free_id() {
    cat "$@" 2>/dev/null | (
        free=100000
        while IFS=: read -r _ first count; do
            [ "$((first + count))" -le "$free" ] || free=$((first + count))
        done
        echo "$free"
    )
}

make_user() {
    if ! id "$test_user" >/dev/null 2>&1; then
        progress "the user $test_user, who runs the tests"
        useradd --create-home --shell /bin/sh "$test_user" || return
    fi
    first=$(first_free_id /etc/subuid /etc/subgid)
    range=$first-$((first + 65535))
    grep -qs "^$test_user:" /etc/subuid || usermod --add-subuids "$range" "$test_user" || return
    grep -qs "^$test_user:" /etc/subgid || usermod --add-subgids "$range" "$test_user"
}

# What only a supplementary group of the user's opens, by mode or by ACL, and what anybody may read.
make_group_files() {
    readers=$test_user-readers
    place=/var/lib/$readers
    getent group "$readers" >/dev/null || groupadd "$readers" || return
    usermod --append --groups "$readers" "$test_user" || return
    install -d -m 0755 "$place" && install -d -m 0750 -g "$readers" "$place/closed" || return
    for name in file closed/file; do
        echo "for $readers" | install -m 0640 -g "$readers" /dev/stdin "$place/$name" || return
    done
    echo 'for all' | install -m 0644 -g "$readers" /dev/stdin "$place/open" || return
    echo "for $readers" | install -m 0600 /dev/stdin "$place/acl" || return
    setfacl -m "g:$readers:r" "$place/acl" 2>/dev/null || note 'without ACLs one test is skipped'
}

# Mode 0666 is what udev gives it on every desktop (50-udev-default.rules). That it can't be made here is no error yet:
# the tests that need it say so.
open_fuse() {
    if ! [ -c /dev/fuse ]; then
        mknod /dev/fuse c 10 229 || note 'without /dev/fuse most tests are skipped' # misc major, fuse minor: devices.txt
    fi
    ! [ -c /dev/fuse ] || chmod 0666 /dev/fuse
}

# fusermount3 -u looks there whether a mount is its caller's. systemd makes it (tmpfiles.d/etc.conf), and so do the engines
# of containers; what debootstrap has made is without.
make_mount_table() {
    [ -e /etc/mtab ] || ln -s ../proc/self/mounts /etc/mtab || note 'without /etc/mtab some tests fail'
}

# make_runtime_folder UID GID: $XDG_RUNTIME_DIR. A login makes it (pam_systemd(8)); in a container nobody does.
make_runtime_folder() {
    [ -d "/run/user/$1" ] && return
    install -d -m 0755 /run/user && install -d -m 0700 -o "$1" -g "$2" "/run/user/$1"
}

# The package lists that `apt-get download` needs. Containers' images come without.
refresh_package_lists() {
    ! command -v apt-cache >/dev/null || apt-cache show hello >/dev/null 2>&1 || sh -c "$(refresh_command)" </dev/null >&2
}

# kept_variables: what of root's environment means the same to the test user: the network, pip's settings, the terminal.
kept_variables() {
    env | sed -n -E 's/^((CI|TERM|COLORTERM|NO_COLOR|PYTEST_ADDOPTS|([a-z]+_proxy|[A-Z]+_PROXY)|(PIP|SSL|REQUESTS|CURL)_[A-Z_]+))=.*/\1/p'
}

# run_as_test_user FOLDER COMMAND…: replaces this shell. The environment is the one that a login would give, and what is
# kept. $under: a program that starts it all, while still root.
run_as_test_user() {
    cd "$1" || return
    shift
    for name in $(kept_variables); do
        eval "set -- \"$name=\${$name-}\" \"\$@\""
    done
    user_id=$(id -u "$test_user")
    group_id=$(id -g "$test_user")
    make_runtime_folder "$user_id" "$group_id" || return
    exec 9>&- ${under:+"$under"} setpriv --reuid "$user_id" --regid "$group_id" --init-groups --inh-caps=-all -- \
        env -i "HOME=$(home_of "$test_user")" "USER=$test_user" "LOGNAME=$test_user" SHELL=/bin/sh LANG=C.UTF-8 \
        PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin "XDG_RUNTIME_DIR=/run/user/$user_id" "$@"
}

home_of() {
    getent passwd "$1" | cut -d: -f6
}

# copy_of_checkout: where the user's copy of this checkout is: each has its own.
copy_of_checkout() {
    echo "$(home_of "$test_user")/checkout-$(printf '%s' "$checkout" | cksum | cut -d' ' -f1)"
}

# prepare_test_user: the user, what they need, and the copy of this checkout, whose place is in $copy afterwards.
prepare_test_user() {
    umask 022
    lock
    provide "$run_needs" "$run_wants$test_wants" || return
    make_user && make_group_files && open_fuse && make_mount_table && refresh_package_lists || return
    copy=$(copy_of_checkout)
    "$(find_python)" -I "$contrib/setup/checkout_copy.py" "$checkout" "$test_user" "$copy"
}

# test_as_user ARGUMENTS…: contrib/test as that user, in that copy; without arguments that choose tests, those of the
# sandbox and the overlay once more as if on an old kernel. Root starts that: newuidmap must go on working in it. Not
# those of control groups, which bring a kernel of their own.
test_as_user() {
    prepare_test_user || return
    (under=$copy/contrib/setup/with_cgroup2 && run_as_test_user "$copy" "$copy/contrib/test" "$@") || return
    case " $* " in
        *' tests/'* | *' -k'*) return ;;
    esac
    progress 'the same on an old kernel: contrib/old-kernel; and without the compiled helper'
    set -- --tests-only "$@" tests/overlay/test_mounted.py tests/sandbox --ignore=tests/sandbox/test_control_groups.py
    (under=$copy/contrib/old-kernel && run_as_test_user "$copy" FUSE_OVERLAY_SHORTCUT=off "$copy/contrib/test" "$@")
}
