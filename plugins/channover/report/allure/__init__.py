"""The HTML report: its pages, plots and history, and the generator that makes it."""
