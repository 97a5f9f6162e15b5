"""Runs side by side, and one after the other."""
