"""The tunnel loop as a laboratory: ways into it, what it does to a tunnel, and what keeps it out."""
