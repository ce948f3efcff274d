# What the set-up says. All of it goes to stderr: stdout belongs to the command that is started in the end.

progress() {
    printf 'sb: setting up (once): %s\n' "$1" >&2
}

note() {
    printf 'sb: %s\n' "$1" >&2
}

# failure WHAT-AND-WHY WHAT-TO-TYPE
failure() {
    printf 'sb: %s\n\nhint: %s\n' "$1" "$2" >&2
}
