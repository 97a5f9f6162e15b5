"""Real traffic, and what it achieved."""
