"""Looking at what a sandbox changed, and taking it over."""
