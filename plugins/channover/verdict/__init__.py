"""From what was observed to a verdict; no host is known here."""
