"""What a run tells while it goes: a live line on a terminal, a line a test elsewhere."""
