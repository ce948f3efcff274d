"""System calls, and nothing else: what is called here is decided elsewhere."""
