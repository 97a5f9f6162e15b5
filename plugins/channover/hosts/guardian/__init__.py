"""What guards a real host: its lease, its facts, and what differs after a run."""
