"""One run: its settings, its target, its labs; no pytest is known here."""
