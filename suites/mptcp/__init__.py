"""Multipath TCP (RFC 8684): one connection over every path."""
