"""A copy-on-write overlay file system in user space; usable alone, and the root of every sandbox of `sb`."""
