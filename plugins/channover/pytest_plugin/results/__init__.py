"""From what pytest reports to the results of a run."""
