"""Tunnels over Multipath TCP, and the loop that they may close."""
