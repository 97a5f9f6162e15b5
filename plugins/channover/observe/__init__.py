"""What a host shows of itself: sockets, counters, NICs, bonds."""
