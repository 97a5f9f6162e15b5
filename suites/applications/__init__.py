"""Applications over Multipath TCP: what their users notice of a path that dies, and of one that is too slow."""
