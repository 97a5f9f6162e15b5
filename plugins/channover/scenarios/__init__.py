"""Labs and tunnels made ready for a test."""
