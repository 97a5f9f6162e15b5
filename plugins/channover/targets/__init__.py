"""Targets: what turns a topology into a live lab."""
