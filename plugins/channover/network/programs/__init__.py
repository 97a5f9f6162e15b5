"""Programs that send and serve real traffic, and what they achieved."""
