"""Hosts behind SSH."""
