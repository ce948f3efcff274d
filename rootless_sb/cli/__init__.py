"""The command line: one module a subcommand; `__main__` imports just the one that runs."""
