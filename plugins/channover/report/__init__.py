"""What a run leaves for machines and for people; data only."""
