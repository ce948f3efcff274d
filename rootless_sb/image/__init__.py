"""Images: where they come from, how they are stored, and what a run takes from one."""
