"""What the target may not do: privileges, and later Landlock and seccomp."""
