"""What a test measures with: flows, transfers, device rates, and the lock on the processors."""
