"""Programs that one runs by hand."""
