"""Changes of a host's network state as data, by subject: each knows its command, what it needs to read, and its inverse."""
