"""A tunnel whose carrier rides within the tunnel: its signs, whether a packet filter keeps it out, and whether it could."""
