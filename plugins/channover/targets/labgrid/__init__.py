"""Labs that are reserved from a labgrid coordinator."""
