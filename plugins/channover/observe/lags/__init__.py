"""What an end of a LAG says of itself, and how each driver prints it."""
