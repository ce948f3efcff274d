"""sb: a root shell in a sandbox, without root, without a daemon."""

__version__ = "0.1.0"
