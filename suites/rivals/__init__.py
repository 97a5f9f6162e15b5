"""Rivals of Multipath TCP: what each gives, measured and not judged. Run with ``--rivals``."""
