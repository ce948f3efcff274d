"""Words for people: everything here goes to stderr."""
