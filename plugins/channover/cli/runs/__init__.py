"""The commands that read what runs have left."""
