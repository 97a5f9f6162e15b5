"""A flow while it runs: its programs, the slices that they give, and the flows that run at once."""
